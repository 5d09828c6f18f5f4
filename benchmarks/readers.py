"""Speed and memory of reading files of conversations, beside the plain way to read each format.

    python benchmarks/readers.py [--megabytes 10 1000] [--rounds 3]

The conversations are made from random words. Each case is a process of its own; the cases take turns, and the script
prints medians over the rounds, in processor seconds, because the readers use one core.

    blocks    what the process that reads does: find where entries end
    items     the same, and decode the blocks, which other processes do in prepare
    plain     JSON Lines: json.loads on each line; JSON: json.load; CSV: csv.DictReader; Parquet: to_pylist by batch
"""

import argparse
import csv
import json
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from theta.corpus.readers.finding import File
from theta.corpus.readers.reading import read

FORMATS = ("jsonl", "json", "csv", "parquet")
CASES = ("blocks", "items", "plain")


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[10, 1000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--case", nargs=2, metavar=("CASE", "FILE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(measured(arguments.case[0], Path(arguments.case[1]))))
        return
    print(f"{platform.platform()}, Python {platform.python_version()}, pyarrow {version('pyarrow')}\n")
    print("| file | " + " | ".join(f"{case}, MB/s | resident, MB" for case in CASES) + " | items / plain |")
    print("|---" * (2 + 2 * len(CASES)) + "|")
    with tempfile.TemporaryDirectory() as folder:
        for megabytes in arguments.megabytes:
            files = [write(Path(folder) / f"{megabytes}.{ending}", megabytes) for ending in FORMATS]
            runs: dict[tuple[Path, str], list[Any]] = {(file, case): [] for file in files for case in CASES}
            for _ in range(arguments.rounds):
                for (file, case), results in runs.items():
                    command = [sys.executable, __file__, "--case", case, str(file)]
                    done = subprocess.run(command, check=True, capture_output=True, text=True)
                    results.append(json.loads(done.stdout))
            for file in files:
                print(row(file, {case: runs[file, case] for case in CASES}), flush=True)
                file.unlink()


def row(file: Path, runs: dict[str, list[Any]]) -> str:
    """Return a line of the table; speeds count the bytes of the file."""
    megabytes = file.stat().st_size / 1e6
    speeds = {case: megabytes / statistics.median(seconds for seconds, _ in each) for case, each in runs.items()}
    resident = {case: statistics.median(kilobytes for _, kilobytes in each) / 1024 for case, each in runs.items()}
    cells = [f"{speeds[case]:.0f} | {resident[case]:.0f}" for case in CASES]
    return f"| {file.suffix}, {megabytes:.0f} MB | {' | '.join(cells)} | {speeds['items'] / speeds['plain']:.2f} |"


def measured(case: str, file: Path) -> tuple[float, int]:
    """Return processor seconds and resident kilobytes of one case."""
    begin = time.process_time()
    if case == "plain":
        for _ in plain(file):
            pass
    else:
        for block in read(File.at(file)):
            if case == "items":
                for _ in block.items():
                    pass
    return time.process_time() - begin, resident_kilobytes()


def resident_kilobytes() -> int:
    """Return the most memory that this process had; on Linux, getrusage counts its parent's before the start too."""
    status = Path("/proc/self/status")
    if status.is_file():
        return int(status.read_text().partition("VmHWM:")[2].split()[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024  # bytes on macOS


def plain(file: Path) -> Iterator[Any]:
    """Read a file with the library that one would take for its format."""
    if file.suffix == ".parquet":
        import pyarrow.parquet as pq

        for batch in pq.ParquetFile(file).iter_batches():
            yield from batch.to_pylist()
        return
    with file.open(encoding="utf-8", newline="") as lines:
        if file.suffix == ".jsonl":
            yield from map(json.loads, lines)
        elif file.suffix == ".json":
            yield from json.load(lines)
        else:
            yield from csv.DictReader(lines)


def write(file: Path, megabytes: int) -> Path:
    """Write conversations: chats as JSON, questions and answers as tables."""
    with file.open("w", encoding="utf-8", newline="") as out:
        if file.suffix == ".csv":
            table = csv.writer(out)
            table.writerow(("question", "answer"))
            for each in conversations(megabytes):
                table.writerow([message["content"] for message in each["messages"][:2]])
        elif file.suffix != ".parquet":
            before, between, after = ("[", ",\n", "]") if file.suffix == ".json" else ("", "\n", "\n")
            out.write(before)
            for number, each in enumerate(conversations(megabytes)):
                out.write((between if number else "") + json.dumps(each, ensure_ascii=False))
            out.write(after)
    if file.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = pa.schema([("question", pa.string()), ("answer", pa.string())])
        with pq.ParquetWriter(file, schema) as table:
            batch: list[dict[str, str]] = []
            for each in conversations(megabytes):
                question, answer = (message["content"] for message in each["messages"][:2])
                batch.append({"question": question, "answer": answer})
                if len(batch) == 10_000:
                    table.write_table(pa.Table.from_pylist(batch, schema))
                    batch.clear()
            table.write_table(pa.Table.from_pylist(batch, schema))
    return file


def conversations(megabytes: int) -> Iterator[Any]:
    """Yield chats of one to four exchanges until their JSON has about this size."""
    chosen = random.Random(0)
    words = ["".join(chosen.choices("etaoinshrdlu", k=chosen.randint(2, 9))) for _ in range(20_000)] + ["“ja”", '"so"']
    texts = [" ".join(chosen.choices(words, k=chosen.randint(8, 60))) for _ in range(20_000)]
    remaining = megabytes * 1_000_000
    while remaining > 0:
        each = [chosen.choice(texts) for _ in range(2 * chosen.randint(1, 4))]
        roles = ("user", "assistant")
        yield {"messages": [{"role": roles[at % 2], "content": text} for at, text in enumerate(each)]}
        remaining -= sum(map(len, each)) + 40 * len(each)


if __name__ == "__main__":
    main()
