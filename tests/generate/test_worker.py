"""A writer in a process of its own: the same replies, and what happens when the process fails or ends."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, wait
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

import theta.generate.worker
from theta import ThetaModel
from theta.errors import GenerationError
from theta.generate.engine import Engine, Token
from theta.generate.settings import GenerationSettings
from theta.generate.worker import WorkerWriter

ROOT = Path(__file__).resolve().parents[2]
PROMPTS = ([5, 9, 7], [3], [8, 8, 2, 6, 4])


def never(rows: int) -> list[int]:
    return [rows - 1]


@pytest.fixture(scope="module")
def worker(tiny_folder: Path) -> ThetaModel:
    return ThetaModel.load_in_worker(tiny_folder, dtype="float32")


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


def test_the_tokens_are_those_of_the_same_writer_in_this_process(tiny_folder: Path, worker: ThetaModel) -> None:
    here = ThetaModel.load(tiny_folder, dtype="float32")
    assert (worker.device, worker.dtype, worker.positions) == (here.device, here.dtype, here.positions)
    expected = written(here.engine)
    assert written(worker.engine) == expected
    assert written(worker.engine) == expected  # the slots of the rows that left are used again
    assert worker.generate_batch(["What is DNS?", "Why?"], seed=4) == here.generate_batch(
        ["What is DNS?", "Why?"], seed=4
    )


def test_a_fault_of_the_writer_is_told_and_the_next_step_goes_on(tiny_folder: Path) -> None:
    engine = Engine(WorkerWriter(tiny_folder, never, "cpu", "float32"), end_id=0)
    wrong = engine.join([10**9, 1], GenerationSettings())  # no such token
    with pytest.raises(RuntimeError, match="index"):
        engine.step()
    engine.leave(wrong)
    row = engine.join(PROMPTS[0], GenerationSettings(), seed=1)
    assert list(engine.step()) == [row]


def test_a_model_that_cannot_be_loaded_is_refused_as_in_this_process(tiny_folder: Path) -> None:
    with pytest.raises(GenerationError, match="expected one of auto"):
        ThetaModel.load_in_worker(tiny_folder, dtype="float8")


def test_a_model_that_is_refused_leaves_no_process(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    start = theta.generate.worker._start

    def noted(pipe: Connection) -> subprocess.Popen[bytes]:
        started.append(start(pipe))
        return started[-1]

    monkeypatch.setattr("theta.generate.worker._start", noted)
    with pytest.raises(GenerationError) as kept:
        WorkerWriter(tiny_folder, never, "cpu", "float8")
    assert started[0].returncode is not None
    del kept  # until here its traceback kept the object


@pytest.mark.parametrize("during_a_step", [False, True])
def test_the_end_of_the_worker_is_noticed(tiny_folder: Path, during_a_step: bool) -> None:
    writer = WorkerWriter(tiny_folder, never, "cpu", "float32")
    engine = Engine(writer, end_id=0)
    engine.join(PROMPTS[0], GenerationSettings(), seed=1)
    engine.step()
    assert engine.is_alive
    pid = writer._process.pid
    assert pid is not None
    with ThreadPoolExecutor(1) as pool:
        if during_a_step:
            os.kill(pid, signal.SIGSTOP)
            step = pool.submit(engine.step)
            assert not wait([step], 0.2).done
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(EOFError, match="has ended: it was killed, perhaps because memory ran out"):
            step.result() if during_a_step else engine.step()
    assert not engine.is_alive


def test_a_caller_is_told_to_load_the_model_again(tiny_folder: Path) -> None:
    model = ThetaModel.load_in_worker(tiny_folder, dtype="float32")
    os.kill(model.engine._writer._process.pid, signal.SIGKILL)  # type: ignore[attr-defined]
    for _ in range(2):
        with pytest.raises(GenerationError, match=r"has ended: it was killed, .*; load the model again\."):
            model.generate("What is DNS?")


def test_a_model_that_is_dropped_leaves_no_process(tiny_folder: Path) -> None:
    writer = WorkerWriter(tiny_folder, never, "cpu", "float32")
    pid = writer._process.pid
    del writer
    with pytest.raises(ProcessLookupError):  # a zombie would still have the number
        os.kill(pid, 0)


@pytest.mark.slow
@pytest.mark.parametrize("is_file", [True, False])
def test_a_script_needs_no_guard_and_no_file(tiny_folder: Path, tmp_path: Path, is_file: bool) -> None:
    code = f"""
import theta
model = theta.ThetaModel.load_in_worker({str(tiny_folder)!r}, "cpu")
print(len(model.generate("What is DNS?", max_length=3, seed=1)) > 0)
"""
    script = tmp_path / "script.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, *([str(script)] if is_file else [])],
        input=None if is_file else code,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("True\n", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_worker_leaves_signals_to_the_process_that_started_it_and_ends_with_it(
    tiny_folder: Path, number: signal.Signals
) -> None:
    code = f"""
import os, signal, theta
signal.signal({int(number)}, lambda *_: None)
engine = theta.ThetaModel.load_in_worker({str(tiny_folder)!r}, "cpu").engine
engine.join([1, 2], theta.generate.settings.GenerationSettings(), seed=1)
os.killpg(0, {int(number)})
print(engine._writer._process.pid, len(engine.step()), flush=True)
"""
    own = [sys.executable, "-c", code]
    done = subprocess.run(own, cwd=ROOT, start_new_session=True, capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == ""
    pid, tokens = map(int, done.stdout.split())
    assert tokens == 1
    assert not Path(f"/proc/{pid}").exists()


def test_a_process_that_ends_while_it_loads_is_told(tiny_folder: Path) -> None:
    with pytest.raises(GenerationError, match=r"has ended while it loaded .*; its error stands above"):
        WorkerWriter(tiny_folder, _end, "cpu", "float32")


def _end(rows: int) -> list[int]:
    os._exit(min(rows, 1))
