"""A server with a tiny model, for all tests of a file."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.serving import Served, serving
from theta import ThetaModel


@pytest.fixture(scope="session")
def model(tiny_folder: Path) -> ThetaModel:
    return ThetaModel.load(tiny_folder)


@pytest.fixture(scope="module")
def served(model: ThetaModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(model, tmp_path_factory.mktemp("feedback") / "feedback.jsonl") as running:
        yield running
