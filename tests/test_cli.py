import json
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from theta import ThetaModel, cli, command
from theta.errors import ExportError, ThetaError
from theta.export.release import release
from theta.generate.settings import GenerationSettings
from theta.generate.terminal import _show
from theta.params import allowed_range

QUESTION = "What is DNS?"


@pytest.fixture
def theta():
    """Run `theta ...` in this process; gives exit code, standard output and standard error."""

    def run(*arguments: str | Path, stdin: str = ""):
        return CliRunner().invoke(cli.app, [str(argument) for argument in arguments], input=stdin)

    return run


def main_with(monkeypatch, capsys, *arguments: str | Path) -> tuple[int, str]:
    """The exit code of the real entry point and what it wrote to standard error."""
    monkeypatch.setattr(sys, "argv", ["theta", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    return exit_.value.code or 0, capsys.readouterr().err


def test_help_lists_the_commands_and_loads_nothing_heavy():
    code = "import sys; from theta.cli import main\ntry: main()\nfinally: print(sorted(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True)
    assert all(name in done.stdout for name in ("generate", "chat", "release", "schema"))
    assert not any(f"'{name}'" in done.stderr for name in ("torch", "transformers", "pydantic", "tokenizers", "numpy"))


def test_what_the_settings_and_the_release_import_is_light():
    code = "import sys, theta.sections, theta.export.release, theta.generate.window, theta.generate.terminal\n"
    code += "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("name", ["generate", "chat"])
def test_the_help_of_each_parameter_states_its_range(theta, name):
    words = " ".join(theta(name, "--help").stdout.replace("│", " ").split())
    for field in GenerationSettings.model_fields:
        assert f"--{field.replace('_', '-')[:20]}" in words
        low, high = allowed_range(GenerationSettings, field).split(" to ")
        assert f"{low} to {high}" in words or f"{low} (off) to {high}" in words


def test_generate_prints_the_reply_alone(theta, tiny_folder):
    done = theta("generate", QUESTION, "--model", tiny_folder, "--max-length", 12, "--top-k", 9, "--seed", 1)
    expected = ThetaModel.load(tiny_folder).generate(QUESTION, max_length=12, top_k=9, seed=1)
    assert (done.exit_code, done.stdout, done.stderr) == (0, expected + "\n", "")


def test_generate_with_a_system_message(theta, tiny_folder):
    options = ("--model", tiny_folder, "--max-length", 12, "--seed", 1)
    plain, brief = theta("generate", QUESTION, *options), theta("generate", QUESTION, *options, "--system", "Be brief.")
    assert brief.exit_code == 0
    assert brief.stdout != plain.stdout


def test_chat_over_a_pipe_remembers_until_reset(theta, tiny_folder):
    lines = f"/help\n{QUESTION}\n\nAnd then?\n/reset\n{QUESTION}\n/quit\nnever read\n"
    done = theta("chat", "--model", tiny_folder, "--max-length", 6, "--top-k", 1, stdin=lines)
    model = ThetaModel.load(tiny_folder)
    first = model.chat(QUESTION, max_length=6, top_k=1)
    turns = [("user", QUESTION), ("assistant", first), ("user", "And then?")]
    second = model.chat([{"role": role, "content": text} for role, text in turns], max_length=6, top_k=1)
    assert done.exit_code == 0
    assert done.stdout.endswith(f"\n{first}\n{second}\n{first}\n")
    assert done.stdout.startswith("/reset ")
    assert done.stderr == ""


def test_chat_goes_on_after_a_question_that_is_too_long(theta, tiny_folder):
    lines = "word " * 300 + f"\n{QUESTION}\n"
    done = theta("chat", "--model", tiny_folder, "--max-length", 6, "--top-k", 1, stdin=lines)
    assert done.exit_code == 0
    assert done.stdout == ThetaModel.load(tiny_folder).chat(QUESTION, max_length=6, top_k=1) + "\n"
    assert done.stderr.startswith("error: The prompt has ")
    assert done.stderr.count("\n") == 1


def test_ctrl_c_stops_the_reply_and_keeps_what_was_written(capsys):
    def pieces():
        yield "half a "
        raise KeyboardInterrupt

    assert _show(Console(highlight=False), pieces()) == "half a "
    assert capsys.readouterr().out == "half a  (stopped)\n"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("generate", "x", "--model", "nowhere"), "error: nowhere is not a folder; give one that Theta exported"),
        (("chat", "--model", "nowhere"), "error: nowhere is not a folder; give one that Theta exported"),
        (("chat", "--top-p", "1.5"), "error: top_p is 1.5, allowed is 0.0 to 1.0."),
        (("generate", "x", "--temperature", "3"), "error: temperature is 3.0, allowed is 0.1 to 2.0."),
        (("release", "--model", "nowhere"), "error: nowhere is not a folder; `dvc repro` makes"),
    ],
)
def test_an_error_is_one_line_and_exit_code_1(monkeypatch, capsys, arguments, line):
    code, stderr = main_with(monkeypatch, capsys, *arguments)
    assert code == 1
    assert stderr.startswith(line)
    assert stderr.count("\n") == 1


def test_errors_of_the_system_are_one_line_too(monkeypatch, capsys, tmp_path):
    (tmp_path / "file").write_text("")
    code, stderr = main_with(monkeypatch, capsys, "schema", "--output", tmp_path / "file" / "schema.json")
    assert code == 1
    assert stderr.startswith("error: ")
    assert stderr.count("\n") == 1


def test_other_faults_keep_their_traceback(monkeypatch):
    app = typer.Typer(pretty_exceptions_enable=False)

    @app.command()
    def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(sys, "argv", ["broken"])
    with pytest.raises(ZeroDivisionError):
        command.run(app)


def test_schema_holds_every_section(theta, tmp_path):
    printed = json.loads(theta("schema").stdout)
    assert sorted(printed["properties"]) == [
        "data",
        "evaluate",
        "export",
        "generation",
        "model",
        "tokenizer",
        "train",
    ]
    temperature = printed["properties"]["generation"]["properties"]["temperature"]
    assert (temperature["minimum"], temperature["maximum"], temperature["default"]) == (0.1, 2.0, 0.8)
    assert "Randomness" in temperature["description"]
    assert theta("schema", "--output", tmp_path / "schema.json").exit_code == 0
    assert json.loads((tmp_path / "schema.json").read_text()) == printed


def test_release_copies_under_the_day_and_loads(tiny_folder, tmp_path):
    target = release(tiny_folder, tmp_path / "models", date(2026, 11, 23))
    assert target == tmp_path / "models" / "theta_enhanced_20261123" / "theta_final"
    assert {path.name: path.read_bytes() for path in target.iterdir()} == {
        path.name: path.read_bytes() for path in tiny_folder.iterdir()
    }
    assert ThetaModel.load(target).generate(QUESTION, max_length=3)


def test_release_makes_files_of_links_that_can_be_written(tiny_folder, tmp_path):
    linked = tmp_path / "linked"
    linked.mkdir()
    for path in tiny_folder.iterdir():
        (linked / path.name).symlink_to(path)
    target = release(linked, tmp_path / "models", date(2026, 11, 23))
    assert not any(path.is_symlink() for path in target.iterdir())


def test_release_never_overwrites(tiny_folder, tmp_path):
    target = release(tiny_folder, tmp_path, date(2026, 11, 23))
    (target / "note.txt").write_text("mine")
    with pytest.raises(ExportError, match="exists already and is left as it is; rename or remove"):
        release(tiny_folder, tmp_path, date(2026, 11, 23))
    assert (target / "note.txt").read_text() == "mine"


def test_release_refuses_a_folder_that_is_not_whole(tiny_folder, tmp_path):
    partial = Path(shutil.copytree(tiny_folder, tmp_path / "partial"))
    (partial / "config.json").unlink()
    (partial / "model.safetensors").unlink()
    with pytest.raises(ThetaError, match=r"lacks config.json, model.safetensors or pytorch_model.bin"):
        release(partial, tmp_path / "models", date(2026, 11, 23))
    assert not (tmp_path / "models").exists()


def test_the_release_command_names_the_new_folder(theta, tiny_folder, tmp_path):
    done = theta("release", "--model", tiny_folder, "--output", tmp_path)
    assert done.exit_code == 0
    folder = Path(done.stdout.splitlines()[0])
    assert folder.parent.name.startswith("theta_enhanced_20")
    assert (folder / "config.json").is_file()
