"""A writer in a process of its own: the same replies, and what happens when the process fails or ends."""

import os
import signal
from pathlib import Path

import pytest

from theta import ThetaModel
from theta.errors import GenerationError
from theta.generate.apart import ApartWriter
from theta.generate.engine import Engine, Token
from theta.generate.settings import GenerationSettings

PROMPTS = ([5, 9, 7], [3], [8, 8, 2, 6, 4])


def never(rows: int) -> list[int]:
    return [rows - 1]


@pytest.fixture(scope="module")
def apart(tiny_folder: Path) -> ThetaModel:
    return ThetaModel.load(tiny_folder, dtype="float32", apart=True)


def written(engine: Engine) -> dict[int, list[Token]]:
    """Rows that join later, end at different times, leave early, and report log-probabilities."""
    settings = GenerationSettings(max_length=12)
    found: dict[int, list[Token]] = {}
    first = engine.join(PROMPTS[0], settings, seed=1, alternatives=2)
    left = engine.join(PROMPTS[1], settings, seed=2)
    for step in range(20):
        if step == 3:
            engine.leave(left)
            engine.join(PROMPTS[2], settings, seed=3)
        for row, token in engine.step().items():
            found.setdefault(row - first, []).append(token)
    return found


def test_the_tokens_are_those_of_the_same_writer_in_this_process(tiny_folder: Path, apart: ThetaModel) -> None:
    here = ThetaModel.load(tiny_folder, dtype="float32")
    assert (apart.device, apart.dtype, apart.positions) == (here.device, here.dtype, here.positions)
    expected = written(here.engine)
    assert written(apart.engine) == expected
    assert written(apart.engine) == expected  # the slots of the rows that left are used again
    assert apart.generate_batch(["What is DNS?", "Why?"], seed=4) == here.generate_batch(
        ["What is DNS?", "Why?"], seed=4
    )


def test_a_fault_of_the_writer_is_told_and_the_next_step_goes_on(tiny_folder: Path) -> None:
    engine = Engine(ApartWriter(tiny_folder, never, "cpu", "float32"), end_id=0)
    wrong = engine.join([10**9, 1], GenerationSettings())  # no such token
    with pytest.raises(RuntimeError, match="index"):
        engine.step()
    engine.leave(wrong)
    row = engine.join(PROMPTS[0], GenerationSettings(), seed=1)
    assert list(engine.step()) == [row]


def test_a_model_that_cannot_be_loaded_is_refused_as_in_this_process(tiny_folder: Path) -> None:
    with pytest.raises(GenerationError, match="expected one of auto"):
        ThetaModel.load(tiny_folder, dtype="float8", apart=True)


def test_the_end_of_the_process_is_noticed(tiny_folder: Path) -> None:
    writer = ApartWriter(tiny_folder, never, "cpu", "float32")
    engine = Engine(writer, end_id=0)
    engine.join(PROMPTS[0], GenerationSettings(), seed=1)
    engine.step()
    pid = writer._process.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(EOFError, match="has ended"):
        engine.step()


def test_a_process_that_ends_while_it_loads_is_told(tiny_folder: Path) -> None:
    with pytest.raises(GenerationError, match="has ended while it loaded"):
        ApartWriter(tiny_folder, _end, "cpu", "float32")


def _end(rows: int) -> list[int]:
    os._exit(min(rows, 1))
