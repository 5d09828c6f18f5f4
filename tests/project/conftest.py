from pathlib import Path

import pytest

from tests.support.project import commit, git

PIPELINE = """\
stages:
  wait:
    cmd: python wait.py
    params: [train]
    deps: [wait.py]
    outs: [models/out.txt]
    metrics:
      - metrics/train.json: {cache: false}
artifacts:
  theta: {path: models/out.txt, type: model}
"""
WAIT = """\
import json, os, pathlib, signal, sys, time
root = pathlib.Path(os.environ["DVC_ROOT"])
seconds = float(next(line for line in open("params.yaml") if "seconds" in line).split(":")[1])
signal.signal(signal.SIGTERM, signal.default_int_handler)
(root / "started").write_text(os.getcwd())
try:
    time.sleep(seconds)
except KeyboardInterrupt:
    (root / "interrupted").touch()
    sys.exit(130)
pathlib.Path("models").mkdir(exist_ok=True)
pathlib.Path("models/out.txt").write_text(str(seconds))
pathlib.Path("metrics").mkdir(exist_ok=True)
pathlib.Path("metrics/train.json").write_text(json.dumps({"validation_loss": seconds}))
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository of git and DVC with one stage, which waits some seconds: committed, and not yet run."""
    root = tmp_path / "project"
    root.mkdir()
    git(root, "init", "--quiet", "--initial-branch", "main")
    for key, value in {"user.name": "x", "user.email": "x@example.org", "commit.gpgsign": "false"}.items():
        git(root, "config", key, value)
    (root / ".dvc").mkdir()  # what `dvc init` does, without its second
    (root / ".dvc/config").write_text("")
    (root / ".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n")
    (root / "dvc.yaml").write_text(PIPELINE)
    (root / "wait.py").write_text(WAIT)
    (root / "params.yaml").write_text("train:\n  seconds: 0\n  epochs: 4\n")
    (root / ".gitignore").write_text("/.theta/\n/started\n/interrupted\n")
    (root / "stages").mkdir()
    (root / "stages/__main__.py").write_text("")
    commit(root, "Begin")
    return root
