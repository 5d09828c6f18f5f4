"""The real server on a free port of this machine, in a thread of the test."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx2
from openai import OpenAI

from theta import ThetaModel
from theta.serve.app import create_app
from theta.serve.batching import Engine
from theta.serve.completions import Service
from theta.serve.rows import Rows
from theta.serve.server import address, bind, server

NAME = "theta"


@dataclass
class Served:
    """A running server, and two clients of it."""

    url: str
    model: ThetaModel
    service: Service
    http: httpx2.Client
    openai: Any
    """The official client; its overloads leave no room for a test's dictionaries."""

    def count(self, name: str, **labels: str) -> float:
        """Return a value of /metrics."""
        wanted = name + ("{" + ",".join(f'{key}="{value}"' for key, value in labels.items()) + "}" if labels else "")
        lines = self.service.metrics.text().decode().splitlines()
        return next((float(line.rsplit(" ", 1)[1]) for line in lines if line.rsplit(" ", 1)[0] == wanted), 0.0)


@contextmanager
def serving(model: ThetaModel, feedback: Path, engine: Engine | None = None, **options: Any) -> Iterator[Served]:
    """Yield a running server; it is shut down at the end of the block."""
    app = create_app(model, engine or Rows(model, 256), name=NAME, feedback_file=feedback, **options)
    listening, ready = bind("127.0.0.1", 0), Event()
    running = server(app, ready.set)
    thread = Thread(target=running.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        assert ready.wait(30)
        url = address(listening)
        with (
            httpx2.Client(base_url=url, timeout=60) as http,
            OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=60) as client,
        ):
            yield Served(url, model, app.state.service, http, client)
    finally:
        running.should_exit = True
        thread.join(30)
        assert not thread.is_alive()
