import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.imports import ROOT
from tests.support.reader_tables import PAGE, README, listed, unversioned
from tests.support.readers import answers
from theta.export import bundle, formats
from theta.export.formats import Format
from theta.generate.settings import GenerationSettings
from theta.model import network
from theta.tokens.vocabulary import Vocabulary

LAYERS = 4


@pytest.fixture(autouse=True)
def is_listed(request: pytest.FixtureRequest) -> Iterator[None]:
    """Check that the tables of the pages name the reader that a test opened, unless they are being made."""
    yield
    if "THETA_READERS_TABLE" in os.environ:
        return
    # A test may name its reader twice: before it opens it, and then with the version.
    reader = unversioned(dict(request.node.user_properties).get("reader", ""))
    for page in (PAGE, README):
        is_there = any(unversioned(each).startswith(reader) for each in listed(page))
        assert is_there, f"{page.name} lacks {reader}; run `python -m tests.readers.table models/theta_final --write`"


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of the starter's first layers, or the export that THETA_READERS_MODEL names.

    What a reader does with a layer it does with all, but to write twelve as ONNX takes three times as long as four.
    """
    if given := os.environ.get("THETA_READERS_MODEL"):
        return Path(given).resolve()
    import torch

    folder = tmp_path_factory.mktemp("release") / "theta_final"
    starter = ROOT / "models/starter"
    card = (starter / "README.md").read_text(encoding="utf-8")
    model, vocabulary = network.load(starter), Vocabulary.load(starter)
    model.transformer.h = model.transformer.h[:LAYERS]
    model.config.n_layer = LAYERS
    bundle.write(folder, model, vocabulary, GenerationSettings(), dtype=torch.float32, card=card)
    return folder


@pytest.fixture(scope="session")
def theirs(release: Path) -> list[dict[str, Any]]:
    """Theta's answers to `CHATS`."""
    return answers(network.load(release), Vocabulary.load(release))


@pytest.fixture(scope="session")
def written(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Format], Path]:
    """A function that writes the release in another format, once."""
    root = tmp_path_factory.mktemp("formats")

    def write(name: Format) -> Path:
        if not (root / name).is_dir():
            formats.write(name, release, root / name)
        return root / name

    return write
