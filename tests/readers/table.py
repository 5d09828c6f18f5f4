"""Open a model in every reader that is installed, and print docs/readers.md's table.

    python -m tests.readers.table [MODEL] [--write docs/readers.md]

Without MODEL, an export of the starter is made. The rows are the tests of this folder, which record what they found;
readers that are not installed have a row that says so. `--write` replaces the table in a page, between its two marks.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

from theta.files import write_text
from theta.markdown import table

BEGIN, END = "<!-- readers: made by tests/readers/table.py -->", "<!-- end of readers -->"


def main() -> None:
    """Run the tests, and print or write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="folder of an export")
    parser.add_argument("--write", type=Path, metavar="PAGE")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-m", "readers", "tests/readers", f"--junitxml={report}"]
        command += ["-o", "junit_family=xunit1"]  # the later one has no place for what a test records
        given = {"THETA_READERS_MODEL": arguments.model} if arguments.model else {}
        done = subprocess.run(command, env={**os.environ, **given}, stdout=sys.stderr, check=False)
        rows = [row(case) for case in ElementTree.parse(report).iter("testcase")]
    machine = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    shown = f"{table(('reader', 'what was compared'), rows)}\n\n{machine}."
    if arguments.write:
        replace(arguments.write, shown)
    else:
        print(shown)
    sys.exit(done.returncode)


def row(case: ElementTree.Element) -> tuple[str, str]:
    """Return the reader with its version, and what the test found."""
    recorded = {each.get("name"): each.get("value", "") for each in case.iter("property")}
    reader = recorded.get("reader", case.get("name", ""))
    if (skipped := case.find("skipped")) is not None:
        return reader, f"not tried: {skipped.get('message')}"
    failed = case.find("failure") is not None or case.find("error") is not None
    return reader, f"FAILED: {recorded.get('found', 'it could not be opened')}" if failed else recorded["found"]


def replace(page: Path, shown: str) -> None:
    """Put the table between the marks of a page."""
    before, rest = page.read_text(encoding="utf-8").split(BEGIN)
    write_text(page, f"{before}{BEGIN}\n\n{shown}\n\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
