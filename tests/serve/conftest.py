"""A server with a tiny model, for all tests of a file."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.serving import Served, serving


@pytest.fixture(scope="module")
def served(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tiny_folder, tmp_path_factory.mktemp("feedback") / "feedback.jsonl") as running:
        yield running
