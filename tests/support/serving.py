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
from theta.serve.completions import Service
from theta.serve.server import address, bind, server

NAME = "theta"


@dataclass
class Served:
    """A running server, and two clients of it."""

    url: str
    model: ThetaModel
    """The same model with an engine of its own, for comparison."""
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
def serving(folder: Path, feedback: Path, rows: int = 256, **options: Any) -> Iterator[Served]:
    """Yield a running server; it is shut down at the end of the block.

    Args:
        folder: of the model.
        feedback: file of marked replies.
        rows: replies that are written at once, if the engine has that many.
        options: of `create_app`.
    """
    # In float32, replies do not depend on their neighbours.
    model = ThetaModel.load(folder, dtype="float32")
    model.engine.most_rows = min(model.engine.most_rows, rows)
    app = create_app(model, name=NAME, feedback_file=feedback, **options)
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
            yield Served(url, ThetaModel.load(folder, dtype="float32"), app.state.service, http, client)
    finally:
        running.should_exit = True
        thread.join(30)
        assert not thread.is_alive()
