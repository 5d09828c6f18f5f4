"""Do what docs/tutorial.md says, in a fresh clone: write its data, set its setting, and run its commands in order.

The first command, which installs Theta, was run by `.ci/run`.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
DATA = "Datasets/bakery/answers.json"


def main() -> None:
    """Follow the tutorial, and stop with the first command that fails."""
    text = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    blocks = [(kind, content) for kind, content in BLOCK.findall(text) if "pip install" not in content]
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "theta"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        for kind, content in blocks:
            print(content, flush=True)
            if kind == "json":
                (clone / DATA).parent.mkdir(parents=True)
                (clone / DATA).write_text(content, encoding="utf-8")
            elif kind == "yaml":
                set_path(clone / "params.yaml", content)
            else:
                subprocess.run(["bash", "-euo", "pipefail", "-c", content], cwd=clone, check=True)
        if not (clone / "metrics" / "report.html").is_file():
            sys.exit("The tutorial ended without metrics/report.html.")


def set_path(params: Path, wanted: str) -> None:
    """Set data.path as the block of YAML says."""
    found = re.fullmatch(r"data:\n  (path: \S+)\n", wanted)
    assert found, wanted
    text, count = re.subn(r"(?m)^  path: \S+$", f"  {found[1]}", params.read_text(encoding="utf-8"))
    assert count == 1
    params.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
