"""`theta serve` under load: many clients that ask at once, against the same replies without a server.

    python benchmarks/serve.py [--model models/theta_final] [--clients 200] [--seconds 600] [--max-length 256]

The server runs in processes of its own on loopback, and the clients in others, one for each two cores (8 at most), so
that they do not limit it where there are enough cores. Each client asks one question after the
other, half of them as a stream. Printed are errors; replies that differ from the offline ones to the same question and
seed (mixed up, or changed by their neighbours, as rounding in bfloat16 does: use --dtype float32); the server's memory
along the run; the mean number of rows of a step; and the throughput, as a share of `generate_batch` with the same
questions in the same run, before the server starts. `--warm-up` lets the clients ask for some seconds before, in which
a server on a GPU records its graphs.

    python benchmarks/serve.py --hostile 10000

Sends that many hostile requests instead: wrong types, wrong values, broken JSON, broken HTTP, odd paths and headers.
Nothing may be answered with a status of 500 or above, and nothing may take longer than 20 seconds.
"""

import argparse
import asyncio
import json
import os
import platform
import random
import re
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import httpx2

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

CHAT = "/v1/chat/completions"
QUESTIONS = (
    "What is overfitting?",
    "Who are you?",
    "How do I undo the last commit in Git?",
    "What is a process in Linux, and how do I list them?",
    "Is a replica the same as a backup?",
    "What makes a password strong?",
    "What is DNS?",
    "Tell me a joke.",
)
SEEDS = 16
MOST_PROCESSES = 8
SECONDS_TO_WAIT = 20.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("models/theta_final"))
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--warm-up", type=float, default=0, metavar="SECONDS")
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--dtype", default="auto", help="auto, bfloat16 or float32")
    parser.add_argument("--hostile", type=int, default=0, metavar="REQUESTS")
    arguments = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores", flush=True)
    if arguments.hostile:
        with server(arguments.model, arguments.dtype) as (url, _):
            print_attack(attack(url, arguments.hostile, seed=0))
        return
    expected, offline = replies_offline(arguments.model, arguments.dtype, arguments.max_length, arguments.clients)
    print(f"offline: {offline.per_second:,.0f} tokens a second, {offline.per_cpu_second:,.0f} a CPU second", flush=True)
    with server(arguments.model, arguments.dtype) as (url, pid):
        asking = partial(load_from_processes, url, arguments.clients)
        asking(arguments.warm_up, arguments.max_length, expected, pid)
        watched = asking(arguments.seconds, arguments.max_length, expected, pid)
        print_load(watched, offline)
        print(f"rows of a step, mean: {rows_per_step(url):.0f}")


@contextmanager
def server(model: Path, dtype: str) -> Iterator[tuple[str, int]]:
    """Yield the URL and the process id of `theta serve`."""
    command = [sys.executable, "-m", "theta", "serve", "--model", str(model), "--port", "0", "--waiting", "512"]
    command += ["--dtype", dtype]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert running.stdout is not None
        found = re.search(r"http://[\d.:]+", running.stdout.readline())
        assert found is not None, "the server did not start"
        yield found[0], running.pid
    finally:
        running.send_signal(signal.SIGTERM)
        running.wait(30)


# Load


Expected = dict[tuple[str, int], str]


@dataclass
class Throughput:
    """Tokens by time, and by the time of all CPUs, which a busy neighbour changes less."""

    per_second: float
    per_cpu_second: float


def replies_offline(model: Path, dtype: str, max_length: int, rows: int) -> tuple[Expected, Throughput]:
    """Return the reply to each question and seed, and the throughput of `generate_batch` with this many rows.

    They come from a process of its own, whose memory is free again before the server starts.
    """
    code = f"import benchmarks.serve as own; own.print_offline({str(model)!r}, {dtype!r}, {max_length}, {rows})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout)
    return {(question, seed): text for question, seed, text in found["replies"]}, Throughput(*found["throughput"])


def print_offline(model: str, dtype: str, max_length: int, rows: int) -> None:
    """Print what `replies_offline` returns, as JSON."""
    from theta import ThetaModel

    loaded = ThetaModel.load(model, dtype=dtype)
    replies = [
        (question, seed, reply.text)
        for question in QUESTIONS
        for seed, reply in enumerate(loaded.generate_batch([question] * SEEDS, seed=0, max_length=max_length))
    ]
    prompts = [QUESTIONS[place % len(QUESTIONS)] for place in range(2 * rows)]
    rates = []
    for _ in range(3):
        begun, cpu = time.perf_counter(), time.process_time()
        made = loaded.generate_batch(prompts, batch_size=rows, seed=0, max_length=max_length)
        tokens = sum(reply.tokens for reply in made)
        rates.append((tokens / (time.perf_counter() - begun), tokens / (time.process_time() - cpu)))
    print(
        json.dumps({"replies": replies, "throughput": [statistics.median(each) for each in zip(*rates, strict=True)]})
    )


@dataclass
class Watched:
    """What happened under load."""

    seconds: float = 0.0
    server_cpu_seconds: float = 0.0
    tokens: int = 0
    replies: int = 0
    wrong: list[str] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    first_token_seconds: list[float] = field(default_factory=list)
    mebibytes: list[float] = field(default_factory=list)
    """Memory of the server's processes, once a second."""

    def add(self, other: "Watched") -> None:
        """Take in what other clients saw."""
        self.seconds = max(self.seconds, other.seconds)
        self.tokens += other.tokens
        self.replies += other.replies
        self.wrong += other.wrong
        self.errors += other.errors
        self.first_token_seconds += other.first_token_seconds


def load_from_processes(
    url: str, clients: int, seconds: float, max_length: int, expected: Expected, pid: int
) -> Watched:
    """Let clients of several processes ask for some seconds; see `load`."""
    processes = min(max((os.cpu_count() or 1) // 2, 1), MOST_PROCESSES)
    edges = [clients * place // processes for place in range(processes + 1)]
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        parts = [
            pool.submit(_load, url, end - begin, seconds, max_length, expected, pid if not begin else 0, begin)
            for begin, end in pairwise(edges)
        ]
        watched = parts[0].result()
        for part in parts[1:]:
            watched.add(part.result())
    return watched


def _load(*arguments: Any) -> Watched:
    return asyncio.run(load(*arguments))


async def load(
    url: str, clients: int, seconds: float, max_length: int, expected: Expected, pid: int = 0, first: int = 0
) -> Watched:
    """Let clients ask for some seconds.

    Args:
        url: of the server.
        clients: how many ask at once.
        seconds: how long they begin new requests.
        max_length: of the replies.
        expected: the reply to each question and seed; if it is empty, the first one of each counts as right.
        pid: process whose memory is watched; 0 for none.
        first: number of the first client, which decides what it asks.
    """
    watched, begun = Watched(), time.perf_counter()
    limits = httpx2.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx2.AsyncClient(base_url=url, limits=limits, timeout=120) as http:
        watching = asyncio.create_task(_watch_memory(pid, watched)) if pid else None
        asking = (
            _ask_on(http, number, begun + seconds, max_length, expected, watched)
            for number in range(first, first + clients)
        )
        cpu = _cpu_seconds(pid) if pid else 0.0
        await asyncio.gather(*asking)
        if watching:
            watching.cancel()
            watched.server_cpu_seconds = _cpu_seconds(pid) - cpu
    watched.seconds = time.perf_counter() - begun
    return watched


async def _ask_on(
    http: httpx2.AsyncClient, number: int, until: float, max_length: int, expected: Expected, watched: Watched
) -> None:
    draw = random.Random(number)
    while time.perf_counter() < until:
        question, seed = draw.choice(QUESTIONS), draw.randrange(SEEDS)
        body = {"model": "theta", "messages": [{"role": "user", "content": question}], "seed": seed}
        body |= {"max_tokens": max_length}
        try:
            text, tokens = await (_streamed if number % 2 else _whole)(http, body, watched)
        except Exception as fault:
            watched.errors[f"{type(fault).__name__}: {fault}"[:200]] += 1
            continue
        watched.replies += 1
        watched.tokens += tokens
        if text != expected.setdefault((question, seed), text):
            watched.wrong.append(f"{question!r}, seed {seed}: {text!r}, expected {expected[question, seed]!r}")


async def _whole(http: httpx2.AsyncClient, body: dict[str, Any], watched: Watched) -> tuple[str, int]:  # noqa: ARG001
    answer = (await http.post(CHAT, json=body)).raise_for_status().json()
    return answer["choices"][0]["message"]["content"], answer["usage"]["completion_tokens"]


async def _streamed(http: httpx2.AsyncClient, body: dict[str, Any], watched: Watched) -> tuple[str, int]:
    texts: list[str] = []
    tokens, begun = 0, time.perf_counter()
    body = {**body, "stream": True, "stream_options": {"include_usage": True}}
    async with http.stream("POST", CHAT, json=body) as answer:
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            if not line.startswith("data: {"):
                continue
            event = json.loads(line[6:])
            if event["choices"] and (text := event["choices"][0]["delta"].get("content")):
                if not texts:
                    watched.first_token_seconds.append(time.perf_counter() - begun)
                texts.append(text)
            tokens = event["usage"]["completion_tokens"] if event.get("usage") else tokens
    return "".join(texts), tokens


async def _watch_memory(pid: int, watched: Watched) -> None:
    while True:
        status = "".join(file.read_text(encoding="ascii") for file in _files(pid, "status"))
        watched.mebibytes.append(sum(map(int, re.findall(r"VmRSS:\s+(\d+)", status))) / 1024)
        await asyncio.sleep(1)


def _cpu_seconds(pid: int) -> float:
    stats = (file.read_text(encoding="ascii").rpartition(")")[2].split() for file in _files(pid, "stat"))
    return sum(int(fields[11]) + int(fields[12]) for fields in stats) / os.sysconf("SC_CLK_TCK")


def _files(pid: int, name: str) -> list[Path]:
    """Return what /proc says of a process and of those that it has started."""
    started = " ".join(file.read_text(encoding="ascii") for file in Path(f"/proc/{pid}/task").glob("*/children"))
    return [Path(f"/proc/{each}/{name}") for each in (pid, *started.split())]


def rows_per_step(url: str) -> float:
    """Return the mean number of replies that advanced in one step."""
    text = httpx2.get(f"{url}/metrics").text
    total, steps = (_value(text, f"theta_batch_rows_{name}") for name in ("sum", "count"))
    return total / steps


def _value(text: str, name: str) -> float:
    found = re.search(rf"^{name} (.+)$", text, re.MULTILINE)
    assert found is not None
    return float(found[1])


def print_load(watched: Watched, offline: Throughput) -> None:
    """Print the figures of a run."""
    rate, per_cpu = watched.tokens / watched.seconds, watched.tokens / watched.server_cpu_seconds
    print(f"{watched.replies:,} replies, {watched.tokens:,} tokens in {watched.seconds:.0f} s")
    print(f"{rate:,.0f} tokens a second, {rate / offline.per_second:.0%} of offline")
    print(f"{per_cpu:,.0f} tokens a CPU second of the server, {per_cpu / offline.per_cpu_second:.0%} of offline")
    print(f"first token, median: {1000 * statistics.median(watched.first_token_seconds):,.0f} ms")
    quarter = max(len(watched.mebibytes) // 4, 1)
    parts = [watched.mebibytes[place : place + quarter] for place in range(0, 4 * quarter, quarter)]
    print(
        "memory of the server's processes, MiB, by quarter:",
        ", ".join(f"{statistics.median(part):,.0f}" for part in parts if part),
    )
    print(f"replies that differ from the offline ones: {len(watched.wrong)}", *watched.wrong[:3], sep="\n  ")
    print(f"errors: {watched.errors.total()}", *watched.errors.items(), sep="\n  ")


# Hostile requests


@dataclass
class Attacked:
    """How hostile requests were answered."""

    statuses: Counter[str] = field(default_factory=Counter)
    bad: list[str] = field(default_factory=list)
    """Those that were answered with a status of 500 or above, or too late."""
    slowest_seconds: float = 0.0


GOOD: dict[str, dict[str, Any]] = {
    CHAT: {"model": "theta", "messages": [{"role": "user", "content": "What is DNS?"}], "max_tokens": 2, "n": 1}
    | {"temperature": 0.8, "top_p": 0.9, "top_k": 50, "repetition_penalty": 1.2, "no_repeat_ngram_size": 3}
    | {"stop": ["x"], "seed": 1, "stream": False, "stream_options": None, "logprobs": None, "logit_bias": None},
    "/v1/completions": {"model": "theta", "prompt": "DNS is", "max_tokens": 2, "n": 1, "stop": None, "stream": True},
    "/feedback": {"id": "a", "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    | {"label": None},
}
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**64), 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf"),
    "", " ", "x", "\0", "\ud800", "\U0010ffff", "\u202e", "1", "null", "system", "<|end|><|assistant|>", "../../etc",
    "a" * 100_000, "word " * 5000, [], {}, [[]], [None], [1, "a"], ["", "x"], [0] * 5000, [2**40], ["a"] * 300,
    {"a": 1}, {"role": "user"}, {"type": "text"}, {"include_usage": "yes"},
    [{"role": "user", "content": "x"}] * 100, [{"role": "assistant", "content": ""}],
    [{"role": "user", "content": "\ud83d"}], [{"role": "user", "content": [{"type": "text", "text": "x"}]}],
)  # fmt: skip
KINDS = (
    "application/json",
    "text/plain",
    "application/json; charset=utf-7",
    "multipart/form-data; boundary=x",
    "",
    "x",
)


def attack(url: str, requests: int, seed: int) -> Attacked:
    """Send hostile requests, one after the other; most of them are one change away from a good one."""
    draw, attacked = random.Random(seed), Attacked()
    with httpx2.Client(base_url=url, timeout=SECONDS_TO_WAIT) as http:
        for number in range(requests):
            begun = time.perf_counter()
            attempt = _broken_http if number % 20 == 0 else _hostile_body
            try:
                status, what = attempt(http, draw, url)
            except httpx2.HTTPError as fault:
                status, what = 999, f"request {number}: {type(fault).__name__}"
            attacked.slowest_seconds = max(attacked.slowest_seconds, time.perf_counter() - begun)
            attacked.statuses[str(status or "closed")] += 1
            if status >= 500:
                attacked.bad.append(f"{status}: {what}"[:1000])
    return attacked


def _hostile_body(http: httpx2.Client, draw: random.Random, url: str) -> tuple[int, str]:  # noqa: ARG001
    path = (
        draw.choice(list(GOOD))
        if draw.random() < 0.95
        else draw.choice(("/", "/v1/models/%00", "/metrics", "//", "/%"))
    )
    content = _content(draw, GOOD.get(path, {}))
    headers = {"Content-Type": draw.choice(KINDS) if draw.random() < 0.1 else "application/json"}
    method = draw.choice(("GET", "PUT", "DELETE", "HEAD", "PATCH", "ODD")) if draw.random() < 0.05 else "POST"
    return http.request(method, path, content=content, headers=headers).status_code, f"{method} {path} {content!r}"


def _content(draw: random.Random, good: dict[str, Any]) -> bytes:
    body: Any = dict(good)
    for _ in range(draw.choice((0, 1, 1, 1, 2, 3))):
        name = draw.choice([*body, "heat", "__class__", "\ud800", "a" * 1000]) if body else "a"
        if draw.random() < 0.1:
            body.pop(name, None)
        else:
            body[name] = draw.choice(VALUES)
    if draw.random() < 0.1:
        body = draw.choice((*VALUES, [body], {"messages": body}))
    content = json.dumps(body).encode()
    match draw.randrange(20):
        case 0:
            return content[: draw.randrange(len(content) + 1)]
        case 1:
            place = draw.randrange(len(content) + 1)
            return content[:place] + draw.randbytes(3) + content[place:]
        case 2:
            return draw.choice((b"[", b'{"a":', b'{"messages":[')) * draw.randrange(1, 50_000)
        case 3:
            return draw.randbytes(draw.randrange(200))
        case 4:
            return content.decode().encode("utf-16")
    return content


def _broken_http(http: httpx2.Client, draw: random.Random, url: str) -> tuple[int, str]:  # noqa: ARG001
    """Send bytes that are hardly HTTP; return the status, or 0 if the server closed the connection."""
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    sent = draw.choice((
        draw.randbytes(100) + b"\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        head.encode() + b"Content-Length: -1\r\n\r\n{}",
        head.encode() + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n{}   ",
        head.encode() + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n",
        head.encode() + b"X: " + b"y" * 100_000 + b"\r\n\r\n",
        head.replace("Host: localhost\r\n", "").encode() + b"\r\n",
        head.encode() + b"Content-Length: 2\r\nConnection: close\r\n\r\n{}",
    ))  # fmt: skip
    with socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1])), timeout=SECONDS_TO_WAIT) as connection:
        try:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(100)
        except TimeoutError:
            return 999, repr(sent[:100])
        except OSError:
            return 0, ""
    found = re.match(rb"HTTP/1\.1 (\d+)", answer)
    return int(found[1]) if found else 0, repr(sent[:100])


def print_attack(attacked: Attacked) -> None:
    """Print how the requests were answered."""
    print("answers:", ", ".join(f"{status}: {count:,}" for status, count in sorted(attacked.statuses.items())))
    print(f"slowest: {attacked.slowest_seconds:.2f} s")
    print(f"500 and above, or too late: {len(attacked.bad)}", *attacked.bad[:5], sep="\n  ")


if __name__ == "__main__":
    main()
