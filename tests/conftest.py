"""Small real objects that several tests share."""

import os
import signal
from pathlib import Path

import pytest

# Shells start background jobs with Ctrl-C ignored, and the processes that tests start would inherit that.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Set before torch is imported: the models here are tiny, and threads would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from tests.support.checkpoints import save_exported
from theta.tokens.vocabulary import GPT2_FOLDER, Vocabulary

POSITIONS = 128

LONGEST = ("train", "experiments", "project", "readers")
"""Folders of the tests that take minutes together, because they start processes."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, so that of several processes none is left alone with one at the end."""
    items.sort(key=lambda item: item.path.parent.name not in LONGEST)


@pytest.fixture(scope="session")
def vocabulary() -> Vocabulary:
    """The real vocabulary: GPT-2's and the special tokens."""
    return Vocabulary.from_base(GPT2_FOLDER)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory, vocabulary: Vocabulary) -> Path:
    """A model folder as the export writes it, with random weights: 2 layers, width 32, 128 positions."""
    return save_exported(tmp_path_factory.mktemp("models") / "theta_final", vocabulary, POSITIONS)


@pytest.fixture(scope="session")
def long_folder(tmp_path_factory: pytest.TempPathFactory, vocabulary: Vocabulary) -> Path:
    """The same with 1,024 positions: its replies take a second or more, long enough to stop them."""
    return save_exported(tmp_path_factory.mktemp("long") / "theta_final", vocabulary, 1024)
