"""Seconds of what `benchmarks/serve.py` does for minutes: many clients at once, and hostile ones."""

import asyncio
from pathlib import Path

import pytest

from benchmarks.serve import attack, load
from tests.support.serving import Served, serving


@pytest.mark.slow
def test_two_hundred_clients_get_their_own_replies(tiny_folder: Path, tmp_path: Path) -> None:
    with serving(tiny_folder, tmp_path / "feedback.jsonl") as served:
        watched = asyncio.run(load(served.url, clients=200, seconds=3, max_length=8, expected={}))
        assert (dict(watched.errors), watched.wrong) == ({}, [])
        assert watched.replies >= 200
        assert served.count("theta_reply_tokens_total") == watched.tokens
        assert served.count("theta_batch_rows_sum") > 2 * served.count("theta_batch_rows_count")
        assert served.count("theta_replies_running") == served.count("theta_replies_waiting") == 0


@pytest.mark.slow
def test_hostile_requests_are_never_a_fault_of_the_server(served: Served) -> None:
    attacked = attack(served.url, 400, seed=1)
    assert attacked.bad == []
    assert attacked.statuses["200"] > 10
    assert attacked.statuses["400"] > 100
    assert served.http.get("/health").json() == {"status": "ok"}
