"""What `import theta` provides, and the metadata of the package."""

import re
import subprocess
import sys
import tomllib

import pytest

from tests.support.imports import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]


def test_the_version_is_known_without_heavy_imports() -> None:
    code = "import sys, theta; print(theta.__version__); print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    version, modules = done.stdout.splitlines()
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    assert not {"torch", "transformers", "pydantic", "numpy"} & set(modules.split())


def test_the_package_holds_all_of_theta_and_nothing_else() -> None:
    setuptools = pytest.importorskip("setuptools")
    include = PYPROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    folders = {path.parent for path in (ROOT / "theta").rglob("*.py")}
    assert set(setuptools.find_packages(str(ROOT), include=include)) == {
        ".".join(folder.relative_to(ROOT).parts) for folder in folders
    }


def test_tests_share_only_helpers() -> None:
    for file in (ROOT / "tests").rglob("*.py"):
        imported = re.findall(r"^ *(?:from|import) (tests\b[\w.]*)", file.read_text(encoding="utf-8"), re.MULTILINE)
        assert all(name.startswith("tests.support.") for name in imported), file


def test_the_changelog_begins_with_this_version() -> None:
    headings = re.findall(r"(?m)^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    assert headings[0] == PROJECT["version"]


def test_constraints_pin_the_dependencies_of_users_and_no_developer_tools() -> None:
    pins = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, version = line.split("==")
            pins[normal(name)] = version
    needed = {normal(name_of(requirement)) for requirement in PROJECT["dependencies"]}
    assert needed <= set(pins)
    assert not {"pytest", "ruff", "mypy", "theta-finetune"} & set(pins)
    assert not [version for version in pins.values() if "+" in version], (
        "a local version such as +cpu is on no registry"
    )


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def name_of(requirement: str) -> str:
    found = re.match(r"[\w.-]+", requirement)
    assert found
    return found[0]
