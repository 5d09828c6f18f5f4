"""An installed package is found from a script in any folder."""

import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.support.imports import ROOT

BUILD = "import sys, setuptools.build_meta as build; print(build.build_editable(sys.argv[1]))"


@pytest.mark.slow
def test_a_script_next_to_the_clone_finds_the_package_and_not_the_folder(tmp_path: Path) -> None:
    """The clone is called theta, as git names it, and so is the package inside it."""
    pytest.importorskip("setuptools")
    clone = tmp_path / "theta"
    for name in ("pyproject.toml", "README.md", "LICENSE", "theta/__init__.py", "theta/tokens/gpt2/LICENSE"):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, clone / name)
    built = subprocess.run(
        [sys.executable, "-c", BUILD, tmp_path], cwd=clone, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    site = tmp_path / "site"
    with ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        wheel.extractall(site)
    (tmp_path / "script.py").write_text(
        "import site, sys; site.addsitedir(sys.argv[1]); import theta; print(theta.__file__)"
    )
    run = [sys.executable, "-S", "script.py", str(site)]  # -S: without the packages installed here
    done = subprocess.run(run, cwd=tmp_path, env={}, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == str(clone / "theta" / "__init__.py"), done.stderr
