"""What is refused, by whom, and with which words: nothing is ever a fault of the server."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.support.serving import NAME, Served, serving
from theta.serve import guard

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
QUESTION = [{"role": "user", "content": "What is DNS?"}]
GOOD = {"model": NAME, "messages": QUESTION, "max_tokens": 2}


def refused(served: Served, changes: dict[str, Any], path: str = CHAT) -> tuple[int, str]:
    """Return status and message for the good request with these changes."""
    body = {key: value for key, value in {**GOOD, **changes}.items() if value is not ...}
    done = served.http.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert done.status_code == 200 or done.json()["error"].keys() == {"message", "type", "param", "code"}
    return done.status_code, "" if done.status_code == 200 else done.json()["error"]["message"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": 0}, "temperature is 0.0 but must be from 0.1 to 2.0."),
        ({"temperature": "0.5"}, "temperature is '0.5': Input should be a valid number."),
        ({"temperature": True}, "temperature is True: Input should be a valid number."),
        ({"top_p": 1.5}, "top_p is 1.5 but must be from 0.0 to 1.0."),
        ({"top_k": 0}, "top_k is 0 but must be from 1 to 100."),
        ({"repetition_penalty": 0.5}, "repetition_penalty is 0.5 but must be from 1.0 to 2.0."),
        ({"no_repeat_ngram_size": 6}, "no_repeat_ngram_size is 6 but must be from 0 to 5."),
        ({"max_tokens": 1025}, "max_length is 1025 but must be from 1 to 1024."),
        ({"max_tokens": 3, "max_length": 4}, "max_tokens and max_length differ, though they mean the same"),
        ({"n": 17}, "n is 17: Input should be less than or equal to 16."),
        ({"seed": -1}, "seed is -1: Input should be greater than or equal to 0."),
        ({"stop": ["a"] * 5}, "stop is ['a', 'a', 'a', 'a', 'a']: List should have at most 4 items"),
        ({"stop": ""}, "stop.0 is '': String should have at least 1 character."),
        ({"presence_penalty": 0.5}, "presence_penalty is 0.5: this model cannot do that; leave it out."),
        ({"tools": [{}]}, "tools is [{}]: this model cannot do that; leave it out."),
        ({"response_format": {"type": "json_object"}}, "response_format is {'type': 'json_object'}: this model cannot"),
        ({"logprobs": 3}, "logprobs is 3: Input should be a valid boolean."),
        ({"heat": 1}, "Unrecognized request argument supplied: heat"),
        ({"messages": ...}, "messages is missing."),
        ({"model": ...}, "model is missing."),
        ({"messages": []}, "messages is []: List should have at least 1 item"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role is 'tool': Input should be"),
        ({"messages": [{"role": "user", "content": " "}]}, "Message 1 (user) has content ' '; give it some text."),
        (
            {"messages": [{"role": "user", "content": "\ud800"}]},
            r"messages.0.content is '\ud800': half of a character",
        ),
        ({"messages": QUESTION * 2}, "Message 2 has role 'user', expected 'assistant'."),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "Message 1 has role 'assistant', expected 'user'."),
        ({"messages": [{"role": "user", "content": "word " * 300}]}, "The prompt has 304 tokens and leaves no room"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0.content"),
        ({"model": "other"}, "This server has no model 'other'; it serves 'theta'."),
    ],
)
def test_a_wrong_request_names_what_is_wrong(served: Served, changes: dict[str, Any], message: str) -> None:
    status, found = refused(served, changes)
    assert status == (404 if "model" in changes and changes["model"] is not ... else 400)
    assert found.startswith(message)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("", "A prompt is empty; give it some text."),
        ([], "A prompt is empty; give it some text."),
        (["a", ""], "A prompt is empty; give it some text."),
        ([-1], "The prompt has the id -1; ids must be from 0 to 50261."),
        ([10**9], "The prompt has the id 1000000000; ids must be from 0 to 50261."),
        ("word " * 300, "The prompt has 301 tokens; the model reads 128, prompt and reply together."),
        (7, "prompt"),
    ],
)
def test_a_wrong_prompt_names_what_is_wrong(served: Served, prompt: Any, message: str) -> None:
    status, found = refused(served, {"prompt": prompt, "messages": ...}, COMPLETIONS)
    assert status == 400
    assert found.startswith(message)


@pytest.mark.parametrize(
    "changes",
    [
        {"presence_penalty": 0, "frequency_penalty": 0.0, "logit_bias": {}, "tools": [], "tool_choice": "none"},
        {"response_format": {"type": "text"}, "modalities": ["text"], "user": "me", "metadata": {"a": "b"}},
        {"store": False, "service_tier": "auto", "parallel_tool_calls": True, "stream_options": None, "stop": None},
        {"messages": [{"role": "developer", "content": "Be brief."}, *QUESTION]},
        {"messages": [{"role": "user", "name": "x", "content": [{"type": "text", "text": "What is DNS?"}]}]},
        {
            "messages": [
                *QUESTION,
                {"role": "assistant", "content": "x", "refusal": None, "tool_calls": None},
                *QUESTION,
            ]
        },
    ],
)
def test_what_changes_nothing_is_accepted(served: Served, changes: dict[str, Any]) -> None:
    assert refused(served, changes) == (200, "")


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"", "application/json", 400),
        (b"{", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b'{"model": ' * 5000, "application/json", 400),
        (b'{"temperature": NaN, "model": "theta"}', "application/json", 400),
        (b'{"max_tokens": ' + b"9" * 5000 + b"}", "application/json", 400),
        (json.dumps(GOOD).encode(), "text/plain", 400),
        (b" " * ((1 << 20) + 1), "application/json", 413),
    ],
)
def test_broken_bodies_are_refused(served: Served, content: bytes, kind: str, status: int) -> None:
    done = served.http.post(CHAT, content=content, headers={"Content-Type": kind})
    assert done.status_code == status
    assert done.json()["error"]["message"]


def test_a_body_without_a_length_is_limited_too(served: Served) -> None:
    done = served.http.post(
        CHAT, content=(b" " * 65536 for _ in range(20)), headers={"Content-Type": "application/json"}
    )
    assert done.status_code == 413


def test_other_methods_and_paths_are_refused(served: Served) -> None:
    assert served.http.get(CHAT).status_code == 405
    done = served.http.get("/nowhere")
    assert (done.status_code, done.json()["error"]["message"]) == (404, "Not Found")


def test_a_body_that_does_not_come_is_given_up(
    tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "SECONDS_PER_BODY", 0.2)
    with serving(tiny_folder, tmp_path_factory.mktemp("x") / "feedback.jsonl") as served:
        port = int(served.url.rsplit(":", 1)[1])
        with socket.create_connection(("127.0.0.1", port), timeout=20) as slow:
            head = f"POST {CHAT} HTTP/1.1", "Host: localhost", "Content-Type: application/json", "Content-Length: 99"
            slow.sendall("\r\n".join([*head, "", "{"]).encode())
            assert slow.recv(100).startswith(b"HTTP/1.1 408")


def test_without_a_token_only_this_machine_may_ask(served: Served) -> None:
    for host, status in (("localhost:1", 200), ("[::1]:8000", 200), ("evil.example", 403), ("", 403), ("[", 403)):
        assert served.http.get("/v1/models", headers={"Host": host}).status_code == status


def test_pages_of_other_sites_are_refused(served: Served) -> None:
    own = served.url.removeprefix("http://")
    for origin, status in ((f"http://{own}", 200), ("https://evil.example", 403), ("null", 403), ("http://[", 403)):
        assert served.http.get("/v1/models", headers={"Origin": origin}).status_code == status


def test_with_a_token_every_client_must_send_it(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    with serving(tiny_folder, tmp_path_factory.mktemp("x") / "feedback.jsonl", token="sécret") as served:
        client = served.http
        assert client.get("/").status_code == client.get("/health").status_code == 200
        for path in ("/v1/models", "/metrics", "/nowhere"):
            assert client.get(path).status_code == 401
        for value in ("Bearer wrong", "sécret", "Basic sécret", "Bearer"):
            assert client.get("/v1/models", headers={b"Authorization": value.encode()}).status_code == 401
        sent = {b"Authorization": "Bearer sécret".encode(), b"Host": b"anything.example"}
        assert client.get("/v1/models", headers=sent).status_code == 200
