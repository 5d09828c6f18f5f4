import pytest

from tests.support.tiny import CONVERSATIONS, save_tokens
from theta.tokens.store import Store
from theta.tokens.vocabulary import Vocabulary


@pytest.fixture(scope="session")
def test_split(tmp_path_factory: pytest.TempPathFactory, vocabulary: Vocabulary) -> Store:
    """The five conversations of `tiny`, encoded."""
    return save_tokens(tmp_path_factory.mktemp("tokens") / "test.arrow", CONVERSATIONS, vocabulary)
