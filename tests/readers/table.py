"""Open a model in every reader that is installed, and print the tables of docs/readers.md and of README.md.

    python -m tests.readers.table [MODEL] [--write]

Without MODEL, an export of the starter is made. The rows are the tests of this folder, which record what they found;
readers that are not installed have a row that says so. `--write` replaces the tables of both pages.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from tests.support.reader_tables import PAGE, README, TABLE
from theta.files import write_text
from theta.markdown import table

SUBJECTS = {
    "test_answers": "ids, replies, probabilities",
    "test_templates": "chat template",
    "test_training": "training, evaluation",
}
"""What the tests of a file compare."""


class Row(NamedTuple):
    """A test: its file, the reader with its version, and what was found."""

    file: str
    reader: str
    found: str


def main() -> None:
    """Run the tests, and print or write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="folder of an export")
    parser.add_argument("--write", action="store_true", help="write the tables into the pages")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-m", "readers", "tests/readers", f"--junitxml={report}"]
        command += ["-o", "junit_family=xunit1"]  # the later one has no place for what a test records
        given = {"THETA_READERS_TABLE": "is being made"}
        if arguments.model:
            given["THETA_READERS_MODEL"] = arguments.model
        done = subprocess.run(command, env={**os.environ, **given}, stdout=sys.stderr, check=False)
        rows = [row(case) for case in ElementTree.parse(report).iter("testcase")]
    for page, shown in {PAGE: long(rows), README: short(rows)}.items():
        if arguments.write:
            replace(page, shown)
        else:
            print(shown, end="\n\n")
    sys.exit(done.returncode)


def row(case: ElementTree.Element) -> Row:
    """Return what a test recorded, or why it did not."""
    recorded = {each.get("name"): each.get("value", "") for each in case.iter("property")}
    file, reader = case.get("classname", "").split(".")[-1], recorded.get("reader", case.get("name", ""))
    if (skipped := case.find("skipped")) is not None:
        return Row(file, reader, f"not tried: {skipped.get('message')}")
    failed = case.find("failure") is not None or case.find("error") is not None
    found = f"FAILED: {recorded.get('found', 'it could not be opened')}" if failed else recorded["found"]
    return Row(file, reader, found)


def long(rows: Iterable[Row]) -> str:
    """Return the table with a row for each reader, and the machine."""
    machine = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    return f"{table(('reader', 'what was compared'), [each[1:] for each in rows])}\n\n{machine}."


def short(rows: Iterable[Row]) -> str:
    """Return the table with a row for each subject, without what was found, unless it is that nothing was."""
    lines = []
    for file, its in groupby(rows, lambda each: each.file):
        readers = [
            f"{each.reader} ({each.found.partition(':')[0]})"
            if each.found.startswith(("FAILED", "not tried"))
            else each.reader
            for each in its
        ]
        lines.append((SUBJECTS[file], "; ".join(readers)))
    return table(("compared", "with"), lines)


def replace(page: Path, shown: str) -> None:
    """Put a table between the marks of a page."""
    text, count = TABLE.subn(lambda found: f"{found[1]}\n\n{shown}\n\n{found[3]}", page.read_text(encoding="utf-8"))
    assert count == 1, page
    write_text(page, text)


if __name__ == "__main__":
    main()
