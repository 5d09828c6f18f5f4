import json
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner, Result

from theta import ThetaModel
from theta.__main__ import main as entry_point
from theta.bases import descriptors
from theta.bases.presets import GPT2
from theta.cli import errors, main, probe
from theta.export.release import of_folder
from theta.generate.settings import GenerationSettings
from theta.memory.forecast import forecasts, size_of_base
from theta.memory.gpu import gpu_of
from theta.memory.plans import AUTOMATIC, GIB, PLANS, Placement, Size, best
from theta.memory.promises import MEASURED_GIB
from theta.settings import allowed_range
from theta.train.settings import TrainSettings

QUESTION = "What is DNS?"
Theta = Callable[..., Result]  # arguments of `theta`, and `stdin`


@pytest.fixture
def theta() -> Theta:
    """Run `theta ...` in this process; return exit code, standard output and standard error."""

    def run(*arguments: str | Path, stdin: str = "") -> Result:
        return CliRunner().invoke(main.app, [str(argument) for argument in arguments], input=stdin)

    return run


def main_with(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str | Path
) -> tuple[int, str]:
    """Return the exit code of the real entry point and what it wrote to standard error."""
    monkeypatch.setattr(sys, "argv", ["theta", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_:
        entry_point()
    return int(exit_.value.code or 0), capsys.readouterr().err


def test_help_lists_the_commands_and_loads_nothing_heavy() -> None:
    code = (
        "import sys; from theta.__main__ import main\ntry: main()\nfinally: print(sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True)
    assert all(
        name in done.stdout
        for name in (
            "models",
            "plan",
            "generate",
            "chat",
            "serve",
            "export",
            "finetune",
            "release",
            "releases",
            "schema",
        )
    )
    assert not any(f"'{name}'" in done.stderr for name in ("torch", "transformers", "pydantic", "tokenizers", "numpy"))


def test_the_version_is_printed(theta: Theta) -> None:
    done = theta("--version")
    assert (done.exit_code, done.stdout.strip()) == (0, version("theta-finetune"))


def test_the_settings_and_the_release_import_nothing_heavy() -> None:
    code = "import sys, theta.params, theta.experiments.finetune, theta.project.registry, theta.cli.chat\n"
    code += "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("command", [("plan",), ("models",), ("plan", "--model", "scratch:nano")])
def test_plans_for_a_given_memory_do_not_import_torch(command: tuple[str, ...]) -> None:
    code = (
        "import sys; from theta.__main__ import main\ntry: main()\nfinally: print(sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command, "--vram", "12"], capture_output=True, text=True, check=True
    )
    assert "error" not in done.stdout
    assert not any(f"'{name}'" in done.stderr for name in ("torch", "transformers", "numpy"))


@pytest.mark.parametrize("name", ["generate", "chat"])
def test_the_help_of_each_parameter_states_its_range(theta: Theta, name: str) -> None:
    words = " ".join(theta(name, "--help").stdout.replace("│", " ").split())
    for field in GenerationSettings.model_fields:
        assert f"--{field.replace('_', '-')[:20]}" in words
        low, high = allowed_range(GenerationSettings, field).removeprefix("from ").split(" to ")
        assert f"{low} to {high}" in words or f"{low} (off) to {high}" in words


def test_generate_prints_the_reply_alone(theta: Theta, tiny_folder: Path) -> None:
    done = theta("generate", QUESTION, "--model", tiny_folder, "--max-length", 12, "--top-k", 9, "--seed", 1)
    expected = ThetaModel.load(tiny_folder, soon=True).generate(QUESTION, max_length=12, top_k=9, seed=1)
    assert (done.exit_code, done.stdout, done.stderr) == (0, expected + "\n", "")


def test_generate_with_a_system_message(theta: Theta, tiny_folder: Path) -> None:
    options = ("--model", tiny_folder, "--max-length", 12, "--seed", 1)
    plain, brief = theta("generate", QUESTION, *options), theta("generate", QUESTION, *options, "--system", "Be brief.")
    assert brief.exit_code == 0
    assert brief.stdout != plain.stdout


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("generate", "x", "--model", "nowhere"), "error: nowhere is not a folder; give one that Theta exported"),
        (("chat", "--model", "nowhere"), "error: nowhere is not a folder; give one that Theta exported"),
        (("chat", "--top-p", "1.5"), "error: top_p is 1.5 but must be from 0.0 to 1.0."),
        (("generate", "x", "--temperature", "3"), "error: temperature is 3.0 but must be from 0.1 to 2.0."),
        (("release", "--model", "nowhere"), "error: nowhere is not a folder; run `dvc repro` to create"),
        (
            ("plan", "--model", "nowhere", "--vram", "12"),
            "error: The shape of 'nowhere' is not known; give a folder",
        ),
        (
            ("plan", "--model", "scratch:huge", "--vram", "12"),
            "error: model.base 'scratch:huge' is not a preset",
        ),
        (("plan", "--vram", "0"), "error: --vram is 0 but must be a number of GiB above 0."),
        (("models", "--vram", "-1"), "error: --vram is -1 but must be a number of GiB above 0."),
        (
            ("plan", "--vram", "12", "--max-length", "2000"),
            "error: --max-length is 2000 but must be from 1 to 1024 for gpt2.",
        ),
        (("plan", "--vram", "12", "--tokens-per-step", "64"), "error: train.tokens_per_step is 64, but a document may"),
    ],
)
def test_an_error_is_one_line_and_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], line: str
) -> None:
    code, stderr = main_with(monkeypatch, capsys, *arguments)
    assert code == 1
    assert stderr.startswith(line)
    assert stderr.count("\n") == 1


def test_errors_of_the_system_are_one_line_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    code, stderr = main_with(monkeypatch, capsys, "schema", "--output", tmp_path / "file" / "schema.json")
    assert code == 1
    assert stderr.startswith("error: ")
    assert stderr.count("\n") == 1


def test_other_faults_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    app = typer.Typer(pretty_exceptions_enable=False)

    @app.command()
    def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(sys, "argv", ["broken"])
    with pytest.raises(ZeroDivisionError):
        errors.run(app)


def table_row(text: str, first: str) -> list[str]:
    """Return the cells of the row that begins with this cell."""
    (line,) = [line for line in text.splitlines() if line.split()[:1] == [first]]
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_plan_shows_what_each_plan_needs_and_which_is_chosen(theta: Theta) -> None:
    done = theta("plan", "--model", "gpt2-medium", "--vram", 12)
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.startswith("For a GPU of 12 GiB. 16,384 tokens a step, documents of up to 512; ")
    assert "gpt2-medium, 355M parameters" in done.stdout
    peaks = [float(table_row(done.stdout, plan.name)[2]) for plan in PLANS]
    size = size_of_base(descriptors.shape("gpt2-medium"))
    found = forecasts(size, gpu_of(12), 16_384, 512)
    assert peaks == [round(each.placement.peak / GIB, 2) for each in found]
    chosen = best(
        [each.placement for each in found if each.allowed and each.placement.plan in AUTOMATIC], gpu_of(12).budget
    )
    assert [plan.name for plan in PLANS if "chosen" in table_row(done.stdout, plan.name)[-1]] == [chosen.plan.name]
    why = f"machine.memory: auto takes {chosen.plan.name} with microbatches of {chosen.tokens_per_microbatch:,} tokens"
    assert f"\n{why}, the fastest that fits into 10.9 of 12.0 GiB (" in done.stdout


def test_plan_shows_all_four_sizes_and_those_that_do_not_fit(theta: Theta) -> None:
    done = theta("plan", "--vram", 4, "--tokens-per-step", 2048)
    assert [line.split(",")[0] for line in done.stdout.splitlines() if "M parameters" in line] == list(GPT2)
    assert done.stdout.count("machine.memory: auto takes") == 3
    assert "No memory plan fits: 3.3 GiB are available, the smallest plan (" in done.stdout


def test_plan_of_a_folder(theta: Theta, tiny_folder: Path) -> None:
    done = theta("plan", "--model", tiny_folder, "--vram", 12, "--max-length", 128)
    assert done.exit_code == 0
    assert "/theta_final, 2M parameters" in done.stdout
    assert table_row(done.stdout, "fast")[-1] == "chosen"


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
def test_plan_without_a_gpu_states_its_assumption(
    theta: Theta, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = theta("plan", "--model", "gpt2")
    assert done.stdout.startswith("torch sees no GPU here, so one of 12 GiB is assumed; set another with --vram. ")
    code, stderr = main_with(monkeypatch, capsys, "plan", "--probe")
    assert (code, stderr) == (
        1,
        "error: A probe measures a GPU, and torch sees none; leave --probe out, or check the driver.\n",
    )


@pytest.mark.parametrize("options", [("--probe",), ("--probe-all",)])
def test_plan_shows_measured_next_to_predicted_figures(
    theta: Theta, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    def half_a_gib_more(
        _size: Size, heads: int, placement: Placement, _longest: int, settings: TrainSettings
    ) -> probe.Measured:
        assert settings.tokens_per_step == 16_384
        return probe.Measured(round(placement.peak + GIB / 2), 1000 * heads)

    monkeypatch.setattr(probe, "require_gpu", lambda: None)
    monkeypatch.setattr(probe, "probe", half_a_gib_more)
    params = Path(__file__).parents[2] / "params.yaml"
    done = theta("plan", "--model", "gpt2-large", "--vram", 12, "--params", params, *options)
    assert done.exit_code == 0
    measured = [plan.name for plan in PLANS if len(table_row(done.stdout, plan.name)) > 5]
    assert measured == (["compact"] if options == ("--probe",) else ["fast", "compact", "lean", "leanest"])
    _, _, peak, _, _, seen, off, speed = table_row(done.stdout, "compact")
    assert float(seen) == pytest.approx(float(peak) + 0.5, abs=0.011)
    assert off == f"{100 * (float(peak) / float(seen) - 1):+.1f} %"
    assert speed == "20,000"
    assert done.stderr.startswith("measuring gpt2-large in plan ")


def test_models_lists_the_promises_and_recommends(
    theta: Theta, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_folder: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    of_folder(tiny_folder, tmp_path / "models/theta_enhanced_20261123")
    done = theta("models", "--vram", 12)
    assert (done.exit_code, done.stderr) == (0, "")
    rows = {base: table_row(done.stdout, base) for base in GPT2}
    assert {base: (row[1], row[2], row[-1]) for base, row in rows.items()} == {
        "gpt2": ("124M", "4 GB", "Fast"),
        "gpt2-medium": ("355M", "8 GB", "Medium"),
        "gpt2-large": ("774M", "16 GB", "Slow"),
        "gpt2-xl": ("1,558M", "24 GB", "Very Slow"),
    }
    assert all(row[3].endswith(" GiB, predicted") or row[0] in MEASURED_GIB for row in rows.values())
    assert table_row(done.stdout, "scratch:nano")[1] == "7M"
    assert "models/theta_enhanced_20261123/theta_final" in done.stdout
    assert "Recommended: gpt2-medium, the largest base that is promised for this memory." in done.stdout


@pytest.mark.parametrize("command", ["theta models --vram 12", "theta plan --vram 12 --model gpt2-medium"])
def test_the_documentation_shows_the_printed_text(theta: Theta, command: str) -> None:
    page = (Path(__file__).parents[2] / "docs" / "gpus.md").read_text(encoding="utf-8")
    shown = page.partition(f"$ {command}\n")[2].partition("```")[0].splitlines()
    printed = [line.split() for line in theta(*command.split()[1:]).stdout.splitlines()]
    lines = [line for line in shown if line.strip() and line != " ..." and "──" not in line]
    assert len(lines) > 6
    assert [line for line in lines if line.split() not in printed] == [], "bring docs/gpus.md up to date"


def test_models_for_a_gpu_below_every_promise(theta: Theta) -> None:
    assert "No base is promised for it; `theta plan --model gpt2`" in theta("models", "--vram", 2).stdout


def test_models_shows_a_measured_need(theta: Theta, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MEASURED_GIB, "gpt2", 0.75)
    assert table_row(theta("models", "--vram", 12).stdout, "gpt2")[3] == "0.8 GiB, measured"


def test_schema_holds_every_section(theta: Theta, tmp_path: Path) -> None:
    printed = json.loads(theta("schema").stdout)
    assert sorted(printed["properties"]) == [
        "data",
        "evaluate",
        "export",
        "generation",
        "machine",
        "model",
        "tokenizer",
        "train",
    ]
    temperature = printed["properties"]["generation"]["properties"]["temperature"]
    assert (temperature["minimum"], temperature["maximum"], temperature["default"]) == (0.1, 2.0, 0.8)
    assert "Randomness" in temperature["description"]
    assert theta("schema", "--output", tmp_path / "schema.json").exit_code == 0
    assert json.loads((tmp_path / "schema.json").read_text()) == printed


def test_the_release_command_names_the_new_folder(theta: Theta, tiny_folder: Path, tmp_path: Path) -> None:
    done = theta("release", "--model", tiny_folder, "--output", tmp_path)
    assert done.exit_code == 0
    folder = Path(done.stdout.splitlines()[0])
    assert folder.parent.name.startswith("theta_enhanced_20")
    assert (folder / "config.json").is_file()
