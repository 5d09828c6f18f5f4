"""dvc.yaml declares code, settings and files correctly, and DVC restores every earlier result."""

import ast
import inspect
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.support.imports import ROOT, closure, missing, superfluous


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = YAML(typ="safe", pure=True).load(path)
    return content


PIPELINE = read(ROOT / "dvc.yaml")["stages"]
SKIPPED = [stage for stage, entry in PIPELINE.items() if not entry.get("always_changed")]
"""The stages that DVC skips if nothing changed; the others need not list their code."""
UNTRACKED = {"machine"}
"""Sections of params.yaml that no stage tracks, so that nothing runs again on another machine."""
DATA = "models/base/data.json"
PLOTS = {"theta/evaluate/plot.svg", "theta/evaluate/plots.css"}
PACKAGE_DATA = {
    "tokenize": {"theta/tokens/gpt2/vocab.json", "theta/tokens/gpt2/merges.txt"},
    "evaluate": PLOTS,
    "report": PLOTS | {"theta/report/page.html", "theta/report/defaults.yaml"},
}
"""Files of the package that a stage reads without importing them."""


def code(stage: str) -> list[str]:
    return [dep for dep in PIPELINE[stage]["deps"] if dep.startswith(("stages/", "theta/"))]


def needed(stage: str) -> set[str]:
    imported = closure(ROOT / "stages" / f"{stage}.py")
    return {path.relative_to(ROOT).as_posix() for path in imported} | PACKAGE_DATA.get(stage, set())


def test_dvc_yaml_is_short_enough_to_read() -> None:
    assert len((ROOT / "dvc.yaml").read_text().splitlines()) <= 150


@pytest.mark.parametrize("stage", SKIPPED)
def test_deps_cover_what_the_stage_imports(stage: str) -> None:
    """If code is missing from the deps, DVC reports a stale result as up to date."""
    lacking = missing(code(stage), needed(stage))
    assert not lacking, "; ".join(f"{stage} imports {path}; add it to its deps in dvc.yaml" for path in lacking)


@pytest.mark.parametrize("stage", SKIPPED)
def test_no_code_is_listed_that_the_stage_does_not_import(stage: str) -> None:
    """Such code would run the stage again without need."""
    useless = superfluous(code(stage), needed(stage))
    assert not useless, "; ".join(f"{stage} needs nothing of {dep}; remove it from its deps" for dep in useless)


def test_missing_and_superfluous_deps_are_found() -> None:
    deps = ["stages/train.py", "theta/train", "theta/train/loop.py", "theta/cli"]
    imported = ["stages/train.py", "theta/train/loop.py", "theta/training.py"]
    assert missing(deps, imported) == ["theta/training.py"]
    assert superfluous(deps, imported) == ["theta/cli", "theta/train/loop.py"]


@pytest.mark.parametrize("stage", PIPELINE)
def test_params_are_the_sections_that_the_stage_reads(stage: str) -> None:
    tree = ast.parse((ROOT / "stages" / f"{stage}.py").read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    read_sections = {
        call.args[1].value
        for call in calls
        if ast.unparse(call.func) == "load" and isinstance(call.args[1], ast.Constant)
    }
    names = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    if names & {"load_whole", "settings.read"}:
        read_sections |= set(read(ROOT / "params.yaml"))
    assert set(PIPELINE[stage]["params"]) == read_sections - UNTRACKED, stage


@pytest.mark.parametrize("stage", PIPELINE)
def test_paths_of_the_command_are_the_deps_and_outs(stage: str) -> None:
    """The default paths of a stage's function are the paths that dvc.yaml declares, or their folders."""
    paths = {Path(default) for default in defaults(stage_function(stage)) if default != "params.yaml"}
    entry = PIPELINE[stage]
    data = [dep for dep in entry.get("deps", []) if not dep.startswith(("stages/", "theta/", "${"))]
    declared = [Path(item) for item in data + outs(entry)]
    for path in paths:
        assert any(path == item or path in item.parents for item in declared), f"{stage}: {path} is not declared"
    for item in declared:
        assert any(path == item or path in item.parents for path in paths), f"{stage}: {item} has no parameter"


@pytest.mark.slow
def test_plots_and_metrics_can_be_shown(tmp_path: Path) -> None:
    """Outs that git keeps are declared as metrics or plots, so DVC must be able to read them as such."""
    shown = dvc(ROOT, "plots", "show", "--json", "--out", str(tmp_path))
    plots = json.loads(shown.stdout)
    assert "errors" not in plots, plots["errors"]
    drawn = {name for name, found in plots["data"].items() if found}
    assert {name for name in plots["data"] if not name.endswith(".json")} == drawn
    metrics = dvc(ROOT, "metrics", "show")
    assert (shown.stderr, metrics.stderr) == ("", "")
    assert max(map(len, metrics.stdout.splitlines())) <= 100


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the real dvc.yaml, whose commands copy files into their outs, after one run.

    The stages write params.yaml; fetch describes the data by a copy of it, and a base that stays the same.
    """
    folder = tmp_path_factory.mktemp("project")
    for name in ("theta", "stages"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "params.yaml", folder)
    data = folder / read(ROOT / "params.yaml")["data"]["path"]
    data.mkdir(parents=True)
    (data / "a.json").write_text("[]")
    pipeline = read(ROOT / "dvc.yaml")
    every_dep = [dep for entry in pipeline["stages"].values() for dep in entry.get("deps", [])]
    for stage, entry in pipeline["stages"].items():
        usual = "params.yaml" if stage in SKIPPED else "dvc.yaml"
        entry["cmd"] = [
            f"mkdir -p {Path(out).parent} && cp {data / 'a.json' if out == DATA else usual} {out}"
            for out in filled(outs(entry), every_dep)
        ]
    YAML().dump(pipeline, folder / "dvc.yaml")
    dvc(folder, "init", "--no-scm", "--quiet")
    assert ran(folder) == list(PIPELINE)
    return folder


@pytest.mark.slow
def test_an_earlier_result_comes_from_the_cache(project: Path) -> None:
    """After a return to old data, settings and code, every stage comes from DVC's cache."""
    changed = [project / name for name in ("params.yaml", "Datasets/conversations/a.json", "theta/settings.py")]
    before = {path: path.read_bytes() for path in changed}
    results = {path: path.read_bytes() for path in (project / "metrics").rglob("*") if path.is_file()}
    for path in changed:
        path.write_text(path.read_text() + "\n# changed\n")
    assert ran(project) == list(PIPELINE)
    assert all(path.read_bytes() != content for path, content in results.items())
    for path, content in before.items():
        path.write_bytes(content)
    assert ran(project) == ["fetch"]
    assert {path: path.read_bytes() for path in results} == results


@pytest.mark.slow
def test_nothing_runs_again_on_another_machine(project: Path) -> None:
    before = (project / "params.yaml").read_bytes()
    params = read(project / "params.yaml")
    params["machine"] = {key: f"not {value}" for key, value in params["machine"].items()}
    YAML().dump(params, project / "params.yaml")
    assert ran(project) == ["fetch"]
    (project / "params.yaml").write_bytes(before)


@pytest.mark.slow
def test_a_lost_lock_file_is_restored_from_the_cache(project: Path) -> None:
    """The remedy that docs/troubleshooting.md names for a dvc.lock that an interruption truncated."""
    record = (project / "dvc.lock").read_bytes()
    (project / "dvc.lock").unlink()
    assert ran(project) == ["fetch"]
    assert (project / "dvc.lock").read_bytes() == record


@pytest.mark.slow
def test_the_report_comes_back_without_a_run(project: Path) -> None:
    """It is in DVC's cache, because DVC takes no HTML as a metric or a plot."""
    page = project / "metrics/report.html"
    content = page.read_bytes()
    page.unlink()
    dvc(project, "checkout")
    assert page.read_bytes() == content
    assert ran(project) == ["fetch"]


def filled(declared: list[str], deps: list[str]) -> list[str]:
    """Return files to write for the outs: the parts that other stages need, the out itself, or a file inside it."""
    parts = {out: [dep for dep in deps if dep.startswith(f"{out}/")] or [out] for out in declared}
    return [part if Path(part).suffix else f"{part}/file" for needed in parts.values() for part in needed]


def ran(project: Path) -> list[str]:
    """Run the pipeline, and return the stages whose command DVC ran."""
    lines = dvc(project, "repro").stdout.splitlines()
    return [line.split("'")[1] for line in lines if line.startswith("Running stage '")]


def dvc(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)


def stage_function(stage: str) -> Callable[..., None]:
    module = __import__(f"stages.{stage}", fromlist=[stage])
    function: Callable[..., None] = getattr(module, stage)
    return function


def defaults(function: Callable[..., None]) -> list[str]:
    return [parameter.default.as_posix() for parameter in inspect.signature(function).parameters.values()]


def outs(entry: dict[str, Any]) -> list[str]:
    items = [*entry.get("outs", []), *entry.get("metrics", []), *entry.get("plots", [])]
    return [item if isinstance(item, str) else next(iter(item)) for item in items]
