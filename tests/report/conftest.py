from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from stages.report import report
from tests.support.imports import ROOT
from theta import files

DATA_REPORT = "# The data\n\n## Files\n\n| file | holds |\n| --- | --- |\n| a.json | <b>question</b> |\n"
PROVENANCE = {
    "settings": {"learning_rate": 0.001, "epochs": 12},
    "base": {"kind": "local", "name": "models/starter", "revision": None, "files": {"config.json": "ab" * 32}},
    "compute": {"device": "cpu", "threads": 2},
    "versions": {"torch": "2.13.0"},
}


def write_replies(path: Path) -> None:
    """Write six replies: to three questions of the test split, two new wordings and a trained question."""
    replies = []
    for number, kind in enumerate(["test", "test", "test", "new wording", "new wording", "trained"]):
        question = {"role": "user", "content": f"What is number {number}?"}
        replies.append({
            "kind": kind, "domain": "numbers", "source": f"numbers.json#{number}", "messages": [question],
            "reference": f"It is {number}.", "reply": f"It is {number}." if number in (3, 5) else "A bird.",
            "chrf": 100.0 if number in (3, 5) else 12.5, "ended": True, "tokens": 5,
        })  # fmt: skip
    files.write_json(path, replies)


@pytest.fixture
def render(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Run the stage on the metrics that git holds, with changes: {"evaluate.json": {"answers": ...}} adds a key."""

    def rendered(changes: dict[str, dict[str, Any]] | None = None, params: str | None = None) -> str:
        copytree(ROOT / "metrics", tmp_path / "metrics", dirs_exist_ok=True)
        write_replies(tmp_path / "metrics/replies.yaml")
        for name, values in (changes or {}).items():
            path = tmp_path / "metrics" / name
            files.write_json(path, {**files.read_json(path), **values})
        files.write_text(tmp_path / "params.yaml", params or (ROOT / "params.yaml").read_text())
        files.write_text(tmp_path / "Datasets/prepared/report.md", DATA_REPORT)
        described = {"kind": "local", "files": [{"name": "a.json", "bytes": 3, "sha256": "ef" * 32}]}
        files.write_json(tmp_path / "models/base/data.json", described)
        files.write_json(tmp_path / "models/checkpoint/provenance.json", PROVENANCE)
        monkeypatch.chdir(tmp_path)
        report()
        return Path("metrics/report.html").read_text()

    return rendered


@pytest.fixture
def answers() -> dict[str, Any]:
    """The section of metrics/evaluate.json about answers."""
    trained = {"questions": 200, "right": 181, "share": 0.905, "verbatim": 150}
    return {"trained": trained, "new_wordings": None, "domains": {"linux": {"trained": trained, "new_wordings": None}}}
