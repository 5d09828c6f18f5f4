"""Speed and memory of prepare and tokenize beside what others use, each as a whole process, and equality of ids.

    python benchmarks/data.py [--megabytes 10 100 1000] [--peer-megabytes 100] [--rounds 3]
    python benchmarks/data.py --equality [--megabytes 100]

The conversations are made from random words, whose frequencies fall off as those of a language do; a tenth of the words
is met once. In files of more than 100 MB, the letters of the words change with each 100 MB. The cases take turns, so
that a machine whose speed drifts treats them alike; the script prints medians over the rounds. Memory is the sum over
all processes of a case, sampled five times a second. Where the system tells it (Linux), a page that several processes
share, such as the code of a library, is divided among them (proportional set size), and the memory that belongs to the
processes alone is given too (anonymous: neither files nor libraries). Elsewhere shared pages count for each process.

    prepare        `python -m stages prepare` on JSON Lines: cleaning, duplicates, near twins, splits, leaks, report
    tokenize       `python -m stages tokenize` on what prepare wrote: ids, labels, lengths, cuts; Arrow files
    datasets.map   datasets.load_dataset("json") and a batched `map` on all cores with the `tokenizers` library, which
                   makes the same ids and labels as tokenize; Arrow files
    tiktoken       json, and encode_ordinary_batch with a thread a core; the ids in one NumPy file, without labels

With `--equality` the ids of gigatoken and tiktoken are compared with those of the `tokenizers` library on this much
mixed text and on every character of Unicode in eight surroundings; this takes minutes.
"""

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from theta.bases.descriptors import resolve
from theta.conversation.messages import Conversation, Message
from theta.files import write_json
from theta.machine.process import available_cores
from theta.settings import read as load_yaml
from theta.tokens.ids import Encoder
from theta.tokens.vocabulary import GPT2_FOLDER, Vocabulary

ROOT = Path(__file__).parents[1]
MAX_LENGTH = 512
RAW = "raw/data.jsonl"
STAGES = ("prepare", "tokenize")
LETTERS = list("abcdefghijklmnopqrstuvwxyz")
UNLIKE_BYTES = 100_000_000
PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""How GPT-2 splits a text."""
SCRIPTS = (range(0x61, 0x7B), range(0xE0, 0x180), range(0x391, 0x3CA), range(0x410, 0x450), range(0x4E00, 0x9FA0),
           range(0x1F300, 0x1F600), range(0x30, 0x3A), range(0x21, 0x30))  # fmt: skip


def main() -> None:
    """Print a table of speed and memory, or what the comparison of ids came to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, nargs="+", help="default: 10 100 1000; for equality 100")
    parser.add_argument("--peer-megabytes", type=int, default=100, help="the largest size for the others")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--equality", action="store_true")
    parser.add_argument("--peer", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        PEERS[options.peer[0]](Path(options.peer[1]))
        return
    print(f"{platform.processor() or platform.machine()}, {available_cores()} cores, load {os.getloadavg()[0]:.1f}")
    if options.equality:
        compare_ids((options.megabytes or [100])[0])
    else:
        compare_speed(options.megabytes or [10, 100, 1000], options.peer_megabytes, options.rounds)


def compare_speed(sizes: list[int], peer_megabytes: int, rounds: int) -> None:
    """Print a row for each size and case."""
    print("| MB | case | seconds | MB/s | CPU seconds | peak memory, MB | anonymous, MB | tokenize is |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        for megabytes in sizes:
            folder = Path(name) / str(megabytes)
            write_project(folder, megabytes)
            size_mb = (folder / RAW).stat().st_size / 1e6  # a little less than was asked for
            cases = [*STAGES, *(PEERS if megabytes <= peer_megabytes else ())]
            figures: dict[str, list[tuple[float, float, int, int]]] = {case: [] for case in cases}
            for _ in range(rounds):
                for case in cases:
                    figures[case].append(run(case, folder))
            medians = {case: [statistics.median(column) for column in zip(*rows, strict=True)]
                       for case, rows in figures.items()}  # fmt: skip
            both = zip(*(medians[stage] for stage in STAGES), strict=True)
            medians["both stages"] = [combine(pair) for combine, pair in zip((sum, sum, max, max), both, strict=True)]
            for case, (seconds, cpu_seconds, peak, anonymous) in medians.items():
                ratio = f"{seconds / medians['tokenize'][0]:.1f}x as fast" if case in PEERS else ""
                print(
                    f"| {size_mb:,.1f} | {case} | {seconds:.1f} | {size_mb / seconds:.1f} | {cpu_seconds:.1f} "
                    f"| {peak / 1e6:,.0f} | {anonymous / 1e6:,.0f} | {ratio} |",
                    flush=True,
                )


def write_project(folder: Path, megabytes: int) -> None:
    """Write a project whose data has this size."""
    data = {**load_yaml(ROOT / "params.yaml")["data"], "path": RAW, "validation_fraction": 0.01, "test_fraction": 0.01}
    write_json(folder / "params.yaml", {"data": data, "tokenizer": {"max_length": MAX_LENGTH}})
    write_json(folder / "models/base/tokenizer.json", resolve("scratch:nano", None, 0, ())[1])
    write_json(folder / "models/base/data.json", {"kind": "local", "path": RAW, "files": []})
    (folder / "models/base/rehearsal.jsonl").write_text("\n")
    base = list(conversations(0, min(megabytes * 1_000_000, UNLIKE_BYTES)))
    (folder / RAW).parent.mkdir()
    with (folder / RAW).open("w", encoding="utf-8") as out:
        for part in range(-(-megabytes * 1_000_000 // UNLIKE_BYTES)):
            letters = random.Random(part).sample(LETTERS, len(LETTERS)) if part else LETTERS
            table = str.maketrans("".join(LETTERS), "".join(letters))
            out.writelines(line_of(conversation, table) for conversation in base)


def line_of(conversation: Conversation, letters: dict[int, int]) -> str:
    """A line of JSON Lines with other letters."""
    messages = [{"role": m.role, "content": m.content.translate(letters)} for m in conversation.messages]
    return json.dumps({"domain": conversation.domain, "messages": messages}, ensure_ascii=False) + "\n"


def conversations(seed: int, size_bytes: int) -> Iterator[Conversation]:
    """Yield conversations of one to three exchanges whose JSON has about this size."""
    rng = random.Random(seed)
    common = [word(rng) for _ in range(60_000)]
    weights = list(accumulate(1 / (place + 5) for place in range(len(common))))

    def text(least: int, most: int) -> str:
        words = rng.choices(common, cum_weights=weights, k=rng.randrange(least, most))
        words[::10] = [word(rng) for _ in words[::10]]
        return " ".join(words).capitalize()

    written = number = 0
    while written < size_bytes:
        number += 1
        messages = [
            message
            for _ in range(rng.choice([1, 1, 1, 2, 3]))
            for message in (Message("user", text(4, 30) + "?"), Message("assistant", text(10, 200) + "."))
        ]
        yield Conversation(tuple(messages), f"domain {number % 7}", f"made.jsonl#{number}")
        written += 90 + sum(len(message.content.encode()) + 40 for message in messages)


def word(rng: random.Random) -> str:
    """A word of one to four syllables."""
    return "".join(rng.choice("bcdfghklmnprstvw") + rng.choice("aeiou") for _ in range(rng.randrange(1, 5)))


def run(case: str, folder: Path) -> tuple[float, float, int, int]:
    """Run a case as a process; return seconds, CPU seconds, and the peaks of what `memory` returns."""
    command = ["-m", "stages", case] if case in STAGES else [str(Path(__file__).resolve()), "--peer", case, "."]
    begin = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HOME": str(folder / "hf"), "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(
        [sys.executable, *command], cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    peak = anonymous = 0
    while (ended := os.wait4(process.pid, os.WNOHANG))[0] == 0:
        peak, anonymous = map(max, (peak, anonymous), memory(process.pid))
        time.sleep(0.2)
    seconds = time.perf_counter() - begin
    _, status, usage = ended
    if status:
        raise SystemExit(f"{case} failed: {process.stderr.read().decode() if process.stderr else ''}")
    return seconds, usage.ru_utime + usage.ru_stime, peak, anonymous


def memory(pid: int) -> tuple[int, int]:
    """Bytes of a process and all that it started: those in memory, and those of them that are anonymous."""
    try:
        main = psutil.Process(pid)
        each = [_memory(process) for process in (main, *main.children(recursive=True))]
    except (psutil.Error, OSError):
        return 0, 0
    return sum(total for total, _ in each), sum(own for _, own in each)


def _memory(process: psutil.Process) -> tuple[int, int]:
    rollup = Path(f"/proc/{process.pid}/smaps_rollup")
    if not rollup.is_file():
        return process.memory_info().rss, 0
    sizes = {name: int(rest.split()[0]) << 10 for name, rest in
             (line.split(":", 1) for line in rollup.read_text().splitlines()[1:])}  # fmt: skip
    return sizes["Pss"], sizes["Anonymous"]


def datasets_map(folder: Path) -> None:
    """Make ids and labels with `datasets.map`."""
    import datasets
    from tokenizers import Tokenizer

    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    vocabulary = Vocabulary.from_base(GPT2_FOLDER)
    tokenizer: Tokenizer = vocabulary.tokenizer
    special = vocabulary.special_ids

    def encode(batch: dict[str, list[Any]]) -> dict[str, list[list[int]]]:
        texts = [message["content"] for messages in batch["messages"] for message in messages]
        encoded = iter(tokenizer.encode_batch_fast(texts, add_special_tokens=False))
        rows: dict[str, list[list[int]]] = {"input_ids": [], "labels": []}
        for messages in batch["messages"]:
            ids: list[int] = []
            labels: list[int] = []
            for message in messages:
                part = [*next(encoded).ids, special["<|end|>"]]
                ids += [special[f"<|{message['role']}|>"], *part]
                labels += [-100, *(part if message["role"] == "assistant" else [-100] * len(part))]
            rows["input_ids"].append(ids[:MAX_LENGTH])
            rows["labels"].append(labels[:MAX_LENGTH])
        return rows

    with tempfile.TemporaryDirectory(dir=folder) as cache:
        data = datasets.load_dataset("json", data_files=str(folder / RAW), split="train", cache_dir=cache)
        data.map(encode, batched=True, num_proc=available_cores(), remove_columns=["messages"])


def tiktoken_batch(folder: Path) -> None:
    """Make ids with tiktoken."""
    encoding, ids, texts = tiktoken_encoding(), [], []
    with (folder / RAW).open(encoding="utf-8") as lines:
        for line in lines:
            texts += [message["content"] for message in json.loads(line)["messages"]]
            if len(texts) > 10_000:
                ids.append(np.concatenate(encoding.encode_ordinary_batch(texts, num_threads=available_cores())))
                texts.clear()
    ids.append(np.concatenate([[], *encoding.encode_ordinary_batch(texts, num_threads=available_cores())]))
    np.save(folder / "ids.npy", np.concatenate(ids).astype(np.int32))


PEERS: dict[str, Callable[[Path], None]] = {"datasets.map": datasets_map, "tiktoken": tiktoken_batch}


def tiktoken_encoding() -> Any:
    """GPT-2's encoding from the shipped vocabulary, so that nothing is downloaded."""
    import tiktoken

    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    byte_of = {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}
    vocabulary = json.loads((GPT2_FOLDER / "vocab.json").read_text(encoding="utf-8"))
    ranks = {bytes(map(byte_of.__getitem__, token)): rank for token, rank in vocabulary.items() if rank < 50_256}
    return tiktoken.Encoding("gpt2", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={})


def compare_ids(megabytes: int) -> None:
    """Count the texts whose ids differ from those of the `tokenizers` library."""
    vocabulary, tiktoken = Vocabulary.from_base(GPT2_FOLDER), tiktoken_encoding()
    encoder = Encoder(vocabulary.tokenizer)
    print(f"gigatoken: {encoder.fallback or 'used'}")
    for name, batches in (("mixed text", mixed(megabytes * 1_000_000)), ("all of Unicode", unicode())):
        texts = size = other_gigatoken = other_tiktoken = 0
        for batch in batches:
            expected = [each.ids for each in vocabulary.tokenizer.encode_batch_fast(batch, add_special_tokens=False)]
            found = [each.tolist() for each in encoder.encode(batch)]
            other_gigatoken += sum(one != other for one, other in zip(expected, found, strict=True))
            found = [list(each) for each in tiktoken.encode_ordinary_batch(batch)]
            other_tiktoken += sum(one != other for one, other in zip(expected, found, strict=True))
            texts, size = texts + len(batch), size + sum(len(text.encode()) for text in batch)
        print(
            f"{name}: {texts:,} texts, {size / 1e6:.0f} MB; with other ids: gigatoken {other_gigatoken}, "
            f"tiktoken {other_tiktoken}",
            flush=True,
        )


def mixed(size_bytes: int) -> Iterator[list[str]]:
    """Yield batches of texts: language, code, numbers, other scripts, white space, special tokens."""
    rng = random.Random(0)
    odd = ["'s", "'ll", "’s", "\t", "\n\n", "  ", "   ", "\r\n", "\u00a0", "\u200b", "<|end|>", "e\u0301",
           "👩‍💻", "½", "==", "{}", "def f(x):\n    ", "https://a.b/c?d=1", "1,234.56", "\x00", "\ufeff"]  # fmt: skip
    done, batch = 0, []
    for conversation in conversations(1, size_bytes):
        batch += [message.content for message in conversation.messages]
        script = rng.choice(SCRIPTS)
        for _ in range(8):
            words = ["".join(map(chr, rng.choices(script, k=rng.randrange(1, 9)))) for _ in range(rng.randrange(1, 60))]
            parts = [part for each in words for part in (each, rng.choice(odd) if rng.random() < 0.3 else " ")]
            batch.append("".join(parts))
        if len(batch) < 500:
            continue
        yield batch
        done += sum(len(text.encode()) for text in batch)
        if done > size_bytes:
            return
        batch = []


def unicode() -> Iterator[list[str]]:
    """Yield every character of every plane, beside its neighbours and between others."""
    for begin in range(0, 0x110000, 64):
        if not 0xD800 <= begin < 0xE000:
            characters = [chr(code) for code in range(begin, begin + 64)]
            yield [between.join(characters) for between in ("", " ", "  ", "a", "1", "'", "\n", ".")]


if __name__ == "__main__":
    main()
