"""How a command ends: one line, and an exit code that DVC and shells understand."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from rich.console import Console

from theta.cli.errors import fail, one_line, run
from theta.cli.replies import show
from theta.errors import DataError
from theta.text import visible

ROOT = Path(__file__).resolve().parents[2]


def ends(raised: BaseException, capsys: pytest.CaptureFixture[str]) -> tuple[str, object]:
    """Return the output and the exit code of the process when a block raises `raised`."""
    with pytest.raises(SystemExit) as end, one_line():
        raise raised
    written = capsys.readouterr().err
    assert written.count("\n") == 1
    return written.strip(), end.value.code


def test_a_fault_of_theta_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert ends(DataError("a.json is empty."), capsys) == ("error: a.json is empty.", 1)


def test_a_full_disk_outside_of_theta_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    expected = "make room on the disk and run the command again."
    assert ends(OSError(28, "No space left on device"), capsys) == (f"error: No space left on device; {expected}", 1)
    named = OSError(28, "No space left on device", "curves/loss.tsv")
    assert ends(named, capsys)[0] == f"error: curves/loss.tsv: No space left on device; {expected}"
    torch = RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 17088 vs 16982\nframe 1")
    assert ends(torch, capsys)[0].endswith(expected)


def test_a_log_that_fails_to_close_does_not_hide_the_fault(capsys: pytest.CaptureFixture[str]) -> None:
    """On a full disk, dvclive does this: it writes once more when its block ends."""
    closing = OSError(28, "No space left on device")
    closing.__context__ = DataError("state.pt cannot be written (No space left on device); make room.")
    assert ends(closing, capsys)[0] == "error: state.pt cannot be written (No space left on device); make room."


def test_an_error_of_theta_itself_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError), one_line():
        _ = 1 / 0


def test_an_interrupt_is_one_line_wherever_it_arrives(capsys: pytest.CaptureFixture[str]) -> None:
    assert ends(KeyboardInterrupt(), capsys) == ("Interrupted.", 130)
    broken_import = ImportError("numpy was interrupted")
    broken_import.__context__ = KeyboardInterrupt()
    assert ends(broken_import, capsys) == ("Interrupted.", 130)


def test_an_interrupt_within_a_command_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = typer.Typer(pretty_exceptions_enable=False)

    @app.command()
    def wait() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["theta"])
    with pytest.raises(SystemExit) as end:
        run(app)
    assert (capsys.readouterr().err, end.value.code) == ("Interrupted.\n", 130)


HOSTILE = "\x1b]0;owned\x07 \x1b[2J\x9b31m \r \u202e \udce9 \x00"


@pytest.mark.parametrize("character", sorted(set(HOSTILE) - {" "} - set("]0;owned[2J31m")))
def test_control_characters_are_escaped(character: str) -> None:
    shown = visible(f"a{character}b")
    assert shown.isascii()
    assert shown.isprintable()
    assert shown == f"a{character.encode('unicode_escape').decode()}b"


def test_text_stays_as_it_is() -> None:
    text = "Zwei Zeilen\n\tund ein Tabulator, 你好, 👋🏽, e\u0301, \u00a0, \u200d, עברית"
    assert visible(text) == text


def test_errors_show_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        fail(f"The file {HOSTILE} is empty.")
    written = capsys.readouterr().err
    assert r"\x1b]0;owned\x07" in written
    assert not set(written) & set("\x1b\x07\x9b\r\u202e\udce9\x00")


def test_replies_show_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    """So are those of which a piece holds only a part."""
    show(Console(highlight=False), ["two\nlines ", "\x1b", "[31m red", "\x07"])
    assert capsys.readouterr().out == "two\nlines \\x1b[31m red\\x07\n"


# The real commands.


def stages(*arguments: str, interpreter: tuple[str, ...] = (), **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, *interpreter, "-m", "stages", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_without_the_environment_the_error_shows_how_to_activate_it() -> None:
    with stages("prepare", interpreter=("-S",), PYTHONPATH="") as process:
        written = process.communicate(timeout=30)[1]
    assert process.returncode == 1
    assert written.count("\n") == 1
    assert "has no module typer; activate the environment first, with `. .venv/bin/activate`" in written


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """A file that nobody writes: a process that opens it waits."""
    path = tmp_path / "params.yaml"
    os.mkfifo(path)
    return path


def interrupted(process: "subprocess.Popen[str]", waits_for: Path) -> tuple[int, str]:
    """Return the exit code and output of a process that is interrupted when it opens a pipe."""
    with process, waits_for.open("w"):  # opened when the process opens it, too
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        written = process.communicate(timeout=30)[1]
    return process.returncode, written


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["fetch", "prepare", "tokenize", "evaluate", "export"])
def test_ctrl_c_in_a_stage_is_one_line(pipe: Path, stage: str) -> None:
    assert interrupted(stages(stage, "--params", str(pipe)), pipe) == (130, "Interrupted.\n")


def test_ctrl_c_during_imports_is_one_line(pipe: Path) -> None:
    """A module that waits replaces a library that takes seconds to import."""
    (pipe.parent / "typer.py").write_text(f"open({str(pipe)!r}).read()")
    process = stages("prepare", PYTHONPATH=f"{pipe.parent}:{ROOT}")
    assert interrupted(process, pipe) == (130, "Interrupted.\n")


def test_a_terminal_in_ascii_shows_any_text() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from theta.cli.errors import one_line\nwith one_line():\n    print('caf\\xe9 \\u4f60')",
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("caf\\xe9 \\u4f60\n", "")
