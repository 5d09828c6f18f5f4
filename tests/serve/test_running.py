"""A server under pressure: too many requests, clients that leave, engines that fail, and its end."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.serving import NAME, serving
from theta.cli.serve import check_installed
from theta.errors import SettingsError
from theta.generate.engine import Engine, Token
from theta.serve.server import bind, check_access, is_loopback

CHAT = "/v1/chat/completions"
LONG = {"model": NAME, "messages": [{"role": "user", "content": "What is DNS?"}], "max_tokens": 1000}


def until(is_so: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def events(lines: Iterator[str]) -> Iterator[Any]:
    yield from (json.loads(line[6:]) for line in lines if line.startswith("data: {"))


def test_more_requests_than_may_wait_are_told_when_to_come_back(long_folder: Path, tmp_path: Path) -> None:
    with serving(long_folder, tmp_path / "feedback.jsonl", rows=1, most_waiting=1) as served:
        with served.http.stream("POST", CHAT, json={**LONG, "stream": True}) as one:
            until(lambda: served.count("theta_replies_running") == 1)
            with served.http.stream("POST", CHAT, json={**LONG, "stream": True}):
                until(lambda: served.count("theta_requests_total", route=CHAT, status="200") == 2)
                refused = served.http.post(CHAT, json=LONG)
                assert refused.status_code == 429
                assert 1 <= int(refused.headers["Retry-After"]) <= 60
                assert refused.json()["error"]["code"] == "rate_limit_exceeded"
                assert next(events(one.iter_lines()))["choices"]  # those before go on
            assert served.http.post(CHAT, json={**LONG, "n": 3}).status_code == 400  # never
        assert served.http.post(CHAT, json={**LONG, "max_tokens": 3}).status_code == 200


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_row(long_folder: Path, tmp_path: Path, stream: bool) -> None:
    with serving(long_folder, tmp_path / "feedback.jsonl", rows=2) as served:
        for _ in range(3):
            with httpx2.Client(base_url=served.url, timeout=httpx2.Timeout(60, read=0.2)) as client:
                if stream:
                    with client.stream("POST", CHAT, json={**LONG, "n": 2, "stream": True}) as reply:
                        assert next(events(reply.iter_lines()))
                else:
                    with pytest.raises(httpx2.ReadTimeout):
                        client.post(CHAT, json={**LONG, "n": 2})
            until(lambda: served.count("theta_replies_running") == 0)
        assert served.count("theta_reply_tokens_total") < 3000
        assert served.http.post(CHAT, json={**LONG, "max_tokens": 3}).status_code == 200


def test_a_client_that_leaves_while_it_waits_takes_no_row(long_folder: Path, tmp_path: Path) -> None:
    with (
        serving(long_folder, tmp_path / "feedback.jsonl", rows=1) as served,
        served.http.stream("POST", CHAT, json={**LONG, "stream": True}),
    ):
        with httpx2.Client(base_url=served.url, timeout=0.2) as client, pytest.raises(httpx2.ReadTimeout):
            client.post(CHAT, json=LONG)
        before = served.count("theta_batch_rows_sum")
        until(lambda: served.count("theta_batch_rows_sum") > before + 3)
        assert served.count("theta_batch_rows_sum") == served.count("theta_batch_rows_count")


def test_a_reply_that_takes_too_long_is_ended(long_folder: Path, tmp_path: Path) -> None:
    with serving(long_folder, tmp_path / "feedback.jsonl", seconds_per_request=0.2) as served:
        late = served.http.post(CHAT, json=LONG)
        assert (late.status_code, late.json()["error"]["type"]) == (504, "timeout")
        with served.http.stream("POST", CHAT, json={**LONG, "stream": True}) as reply:
            *texts, last = events(reply.iter_lines())
        assert "".join(text["choices"][0]["delta"].get("content", "") for text in texts)
        assert last["error"]["message"] == "The reply took longer than 0.2 seconds; ask for a shorter one."
        until(lambda: served.count("theta_replies_running") == 0)


def test_an_engine_that_fails_is_told_and_goes_on(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = count()

    def step(engine: Engine) -> Mapping[int, Token]:
        if next(steps) == 7:
            raise RuntimeError("CUDA error: out of memory\nand a long story")
        return whole(engine)

    whole = Engine.step
    monkeypatch.setattr(Engine, "step", step)
    with serving(tiny_folder, tmp_path / "feedback.jsonl") as served:
        short = {**LONG, "max_tokens": 5}
        assert served.http.post(CHAT, json=short).status_code == 200
        with served.http.stream("POST", CHAT, json={**short, "stream": True}) as reply:
            *_, last = events(reply.iter_lines())
        assert last["error"]["message"] == "The reply cannot go on (CUDA error: out of memory); ask again later."
        assert served.http.post(CHAT, json=short).status_code == 200
        assert served.http.get("/health").json() == {"status": "ok"}


def test_a_stream_begins_with_the_first_token_and_gets_the_others_while_they_are_written(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(engine: Engine) -> Mapping[int, Token]:
        time.sleep(0.05)
        return whole(engine)

    whole = Engine.step
    monkeypatch.setattr(Engine, "step", step)
    with serving(tiny_folder, tmp_path / "feedback.jsonl") as served:
        asked = {**LONG, "max_tokens": 20, "seed": 1}
        with served.http.stream("POST", CHAT, json={**asked, "stream": True}) as reply:
            texts = [
                text for event in events(reply.iter_lines()) if (text := event["choices"][0]["delta"].get("content"))
            ]
        assert len(texts) > 5
        message = served.http.post(CHAT, json=asked).json()["choices"][0]["message"]
        assert "".join(texts) == message["content"]


def test_metrics_count_what_happened(tiny_folder: Path, tmp_path: Path) -> None:
    with serving(tiny_folder, tmp_path / "feedback.jsonl") as served:
        asked = served.http.post(CHAT, json={**LONG, "max_tokens": 5, "n": 2}).json()["usage"]
        served.http.get("/no/such/place")
        text = served.http.get("/metrics")
        assert text.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert re.search(r"^# TYPE theta_requests_total counter$", text.text, re.MULTILINE)
        assert served.count("theta_requests_total", route=CHAT, status="200") == 1
        assert served.count("theta_requests_total", route="other", status="404") == 1
        assert served.count("theta_prompt_tokens_total") == asked["prompt_tokens"]
        assert served.count("theta_reply_tokens_total") == asked["completion_tokens"] == 10
        assert served.count("theta_batch_rows_count") == 5
        assert served.count("theta_first_token_seconds_count") == served.count("theta_reply_seconds_count") == 1


def test_replies_in_flight_end_when_the_server_does(long_folder: Path, tmp_path: Path) -> None:
    with serving(long_folder, tmp_path / "feedback.jsonl", rows=1) as served:
        batching = served.service.batching
        assert served.http.get("/health").status_code == 200
    assert not batching.is_alive


@pytest.fixture
def process(long_folder: Path, tmp_path: Path) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Start `theta serve` in a process of its own."""
    started: list[subprocess.Popen[str]] = []

    def start(*options: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "theta", "serve", "--model", str(long_folder), "--port", "0", *options]
        pipe = subprocess.PIPE
        made = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env={**os.environ, "THETA_TOKEN": ""})
        started.append(made)
        return made

    yield start
    for one in started:
        one.kill()
        one.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_a_signal_ends_it(
    process: Callable[..., "subprocess.Popen[str]"], number: signal.Signals
) -> None:
    running = process()
    assert running.stdout is not None
    line = running.stdout.readline()
    url = re.search(r"http://127\.0\.0\.1:\d+", line)
    assert url is not None
    assert line.startswith("Talk to the model at http://127.0.0.1:")
    with httpx2.stream("POST", f"{url[0]}{CHAT}", json={**LONG, "stream": True}, timeout=60) as reply:
        lines = events(reply.iter_lines())
        next(lines)
        running.send_signal(number)
        *_, last = lines
    assert last["choices"][0]["finish_reason"] == "length"  # it was let finish
    assert (running.wait(30), running.communicate()[1]) == (0, "")


def test_addresses_that_cannot_be_served_are_refused() -> None:
    with (
        bind("127.0.0.1", 0) as taken,
        pytest.raises(SettingsError, match=r"\(Address already in use\); choose another"),
    ):
        bind("127.0.0.1", taken.getsockname()[1])
    for host in ("no.such.host.invalid", "x" * 300):
        with pytest.raises(SettingsError, match="cannot listen on"):
            bind(host, 1)


def test_what_is_not_installed_is_named() -> None:
    check_installed("fastapi")
    with pytest.raises(SettingsError, match=r"needs no_such_module; install it with `pip install -e '.\[serve\]'`"):
        check_installed("fastapi", "no_such_module")


def test_other_machines_need_a_token() -> None:
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.9.9.9", "::1")))
    for host in ("0.0.0.0", "192.168.0.7", "::", "example.org"):
        assert not is_loopback(host)
        with pytest.raises(SettingsError, match="set a token"):
            check_access(host, None)
        check_access(host, "secret")
