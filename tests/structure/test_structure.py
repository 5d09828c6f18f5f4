"""The house stands as docs/architecture.md draws it, and dvc.yaml tells the truth about the code."""

import ast
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.imports import ROOT, closure, imported_modules
from theta import settings

# Who may import whom inside theta; modules beside the packages (settings, errors, files) may be imported by all.
DIRECTION: dict[str, set[str]] = {
    "conversation": set(),
    "corpus": {"conversation"},
    "tokens": {"conversation"},
    "bases": {"tokens"},
    "kernels": set(),
    "machine": set(),
    "model": {"tokens", "bases", "kernels", "machine"},
    "optim": {"kernels", "machine"},
    "memory": {"tokens", "bases", "machine", "optim"},
    "train": {"tokens", "kernels", "machine", "model", "optim", "memory"},
    "generate": {"conversation", "tokens", "model"},
    "evaluate": {"conversation", "tokens", "model", "generate"},
    "export": {"conversation", "tokens", "model", "generate"},
    "cli": {"conversation", "tokens", "bases", "machine", "model", "memory", "train", "generate", "export"},
}
IMPORTABLE_BY_ALL = {"settings", "errors", "files"}
WHOLE = {"params"}
"""What knows every section of params.yaml; for fetch, commands and benchmarks."""
NO_TORCH = {"conversation", "corpus", "tokens", "bases"}

PIPELINE = settings.read(ROOT / "dvc.yaml")["stages"]
# The vocabulary that tokenize reads is data of the package, which no import shows.
PACKAGE_DATA = {"tokenize": {"theta/tokens/gpt2"}}


def package_of(module: str) -> str:
    return module.split(".")[1] if module.count(".") else "theta"


@pytest.mark.parametrize("package", DIRECTION)
def test_packages_import_in_one_direction(package: str) -> None:
    for file in (ROOT / "theta" / package).glob("*.py"):
        imported = {package_of(name) for name in imported_modules(file) if name.count(".")}
        allowed = DIRECTION[package] | IMPORTABLE_BY_ALL | {package} | (WHOLE if package == "cli" else set())
        assert imported <= allowed, f"{file} imports {imported - allowed}; theta/{package} may import {allowed}"


def test_every_module_beside_the_packages_has_a_place() -> None:
    assert {path.stem for path in (ROOT / "theta").glob("*.py")} == {"__init__", "__main__"} | IMPORTABLE_BY_ALL | WHOLE


def test_every_package_has_a_direction() -> None:
    assert {path.parent.name for path in (ROOT / "theta").glob("*/__init__.py")} == set(DIRECTION)


def test_theta_never_imports_stages_and_stages_never_import_each_other() -> None:
    for file in (ROOT / "theta").rglob("*.py"):
        assert not any(name.startswith("stages") for name in imported_modules(file)), file
    for stage in PIPELINE:
        others = {f"stages.{name}" for name in PIPELINE}
        assert not others & set(imported_modules(ROOT / "stages" / f"{stage}.py")), stage


def test_packages_hold_no_code() -> None:
    for file in [*(ROOT / "theta").glob("*/__init__.py"), ROOT / "stages" / "__init__.py"]:
        body = ast.parse(file.read_text()).body
        assert len(body) == 1, f"{file} must hold a docstring only: its imports would cost every stage"
        assert isinstance(body[0], ast.Expr)


@pytest.mark.parametrize("package", sorted(NO_TORCH))
def test_packages_without_torch(package: str) -> None:
    for file in (ROOT / "theta" / package).glob("*.py"):
        names = {alias.name.split(".")[0] for node in ast.walk(ast.parse(file.read_text()))
                 if isinstance(node, ast.Import) for alias in node.names}  # fmt: skip
        names |= {str(node.module).split(".")[0] for node in ast.walk(ast.parse(file.read_text()))
                  if isinstance(node, ast.ImportFrom)}  # fmt: skip
        assert not names & {"torch", "transformers"}, file


@pytest.mark.parametrize("stage", PIPELINE)
def test_code_deps_equal_the_import_closure(stage: str) -> None:
    """Code missing from deps gives a stale result that DVC calls up to date; code too many reruns for nothing."""
    needed = {path.relative_to(ROOT).as_posix() for path in closure(ROOT / "stages" / f"{stage}.py")}
    needed |= PACKAGE_DATA.get(stage, set())
    listed = {dep for dep in PIPELINE[stage]["deps"] if dep.startswith(("stages/", "theta/"))}
    assert listed == needed, (
        f"stage {stage} in dvc.yaml: add to deps {sorted(needed - listed)}, take away {sorted(listed - needed)}"
    )


@pytest.mark.parametrize("stage", PIPELINE)
def test_params_equal_the_sections_read(stage: str) -> None:
    tree = ast.parse((ROOT / "stages" / f"{stage}.py").read_text())
    calls = [
        (node.func.id, node.args)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    read = {args[1].value for name, args in calls if name == "load" and isinstance(args[1], ast.Constant)}
    if any(name == "load_whole" for name, _ in calls):
        read |= set(settings.read(ROOT / "params.yaml"))
    assert read == set(PIPELINE[stage]["params"]), stage


@pytest.mark.parametrize("stage", PIPELINE)
def test_paths_of_the_command_are_the_deps_and_outs(stage: str) -> None:
    """A stage's signature is its contract: its default paths are what dvc.yaml declares, or the folders of those."""
    paths = {Path(default) for default in defaults(stage_function(stage)) if default != "params.yaml"}
    entry = PIPELINE[stage]
    data = [dep for dep in entry["deps"] if not dep.startswith(("stages/", "theta/", "${"))]
    declared = [Path(item) for item in data + outs(entry)]
    for path in paths:
        assert any(path == item or path in item.parents for item in declared), f"{stage}: {path} is not declared"
    for item in declared:
        assert any(path == item or path in item.parents for path in paths), f"{stage}: {item} has no parameter"


def stage_function(stage: str) -> Callable[..., None]:
    module = __import__(f"stages.{stage}", fromlist=[stage])
    function: Callable[..., None] = getattr(module, stage)
    return function


def defaults(function: Callable[..., None]) -> list[str]:
    return [parameter.default.as_posix() for parameter in inspect.signature(function).parameters.values()]


def outs(entry: dict[str, Any]) -> list[str]:
    items = [*entry.get("outs", []), *entry.get("metrics", []), *entry.get("plots", [])]
    return [item if isinstance(item, str) else next(iter(item)) for item in items]
