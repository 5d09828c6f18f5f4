"""The imports follow the table in docs/architecture.md."""

import ast
import re

import pytest

from tests.support.imports import ROOT, imported_modules

# The allowed imports inside theta; all packages may import the top-level modules (settings, errors, files).
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
    "generate": {"conversation", "tokens", "bases", "kernels", "machine"},
    "evaluate": {"conversation", "tokens", "model", "generate"},
    "report": {"evaluate"},
    "export": {"conversation", "tokens", "bases", "model", "generate"},
    "project": {"bases", "machine", "export"},
    "experiments": {"tokens", "bases", "train", "evaluate", "export", "project"},
    "serve": {"conversation", "tokens", "generate"},
    "cli": {
        "conversation",
        "corpus",
        "tokens",
        "bases",
        "machine",
        "model",
        "memory",
        "train",
        "generate",
        "export",
        "project",
        "experiments",
        "serve",
    },
}
IMPORTABLE_BY_ALL = {"settings", "errors", "files", "markdown", "parallel", "text"}
WHOLE = {"params"}
"""The module that knows every section of params.yaml; for fetch, commands and benchmarks."""
NO_TORCH = {"conversation", "corpus", "tokens", "bases"}

STAGES = ("fetch", "prepare", "tokenize", "train", "evaluate", "export", "report")


def package_of(module: str) -> str:
    return module.split(".")[1] if module.count(".") else "theta"


@pytest.mark.parametrize("package", DIRECTION)
def test_packages_import_in_one_direction(package: str) -> None:
    for file in (ROOT / "theta" / package).rglob("*.py"):
        imported = {package_of(name) for name in imported_modules(file) if name.count(".")}
        allowed = DIRECTION[package] | IMPORTABLE_BY_ALL | {package} | (WHOLE if package == "cli" else set())
        assert imported <= allowed, f"{file} imports {imported - allowed}; theta/{package} may import {allowed}"


def test_every_top_level_module_is_known() -> None:
    assert {path.stem for path in (ROOT / "theta").glob("*.py")} == {"__init__", "__main__"} | IMPORTABLE_BY_ALL | WHOLE


def test_every_package_has_its_allowed_imports() -> None:
    assert {path.parent.name for path in (ROOT / "theta").glob("*/__init__.py")} == set(DIRECTION)


def test_the_architecture_page_shows_these_directions() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `theta/(\w+)/` \| .+ \| (.+) \|$", page, re.MULTILINE)
    shown = {package: set() if names == "nothing" else set(names.split(", ")) for package, names in rows}
    assert shown == DIRECTION


def test_theta_never_imports_stages_and_stages_never_import_each_other() -> None:
    for file in (ROOT / "theta").rglob("*.py"):
        assert not any(name.startswith("stages") for name in imported_modules(file)), file
    for stage in STAGES:
        others = {f"stages.{name}" for name in STAGES}
        assert not others & set(imported_modules(ROOT / "stages" / f"{stage}.py")), stage


def test_package_files_contain_no_code() -> None:
    for file in [*(ROOT / "theta").rglob("*/__init__.py"), ROOT / "stages" / "__init__.py"]:
        body = ast.parse(file.read_text()).body
        assert len(body) == 1, f"{file} must hold a docstring only: its imports would cost every stage"
        assert isinstance(body[0], ast.Expr)


@pytest.mark.parametrize("package", sorted(NO_TORCH))
def test_packages_without_torch(package: str) -> None:
    for file in (ROOT / "theta" / package).rglob("*.py"):
        names = {alias.name.split(".")[0] for node in ast.walk(ast.parse(file.read_text()))
                 if isinstance(node, ast.Import) for alias in node.names}  # fmt: skip
        names |= {str(node.module).split(".")[0] for node in ast.walk(ast.parse(file.read_text()))
                  if isinstance(node, ast.ImportFrom)}  # fmt: skip
        assert not names & {"torch", "transformers"}, file
