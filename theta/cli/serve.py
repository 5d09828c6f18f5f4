"""`theta serve`: the model behind OpenAI's API, and a page to talk to it."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from theta.cli.generation_options import FINAL, Dtype, Model, load_model

FEEDBACK = Path("Datasets/feedback.jsonl")


def check_installed(*modules: str) -> None:
    """Refuse to go on without modules that Theta's other commands do not need.

    Raises:
        SettingsError: one of them is not installed.
    """
    from theta.errors import SettingsError

    if missing := [name for name in modules if find_spec(name) is None]:
        raise SettingsError(f"theta serve needs {', '.join(missing)}; install it with `pip install -e '.[serve]'`.")


def serve(
    model: Model = FINAL,
    host: Annotated[
        str, typer.Option(help="Address to listen on; one that other machines reach needs a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8000,
    token: Annotated[
        str | None, typer.Option(envvar="THETA_TOKEN", help="What clients must send as their API key.")
    ] = None,
    dtype: Dtype = "auto",
    name: Annotated[str, typer.Option(help="What clients call the model.")] = "theta",
    waiting: Annotated[int, typer.Option(min=0, help="Replies that may wait; more are refused with status 429.")] = 256,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds that a reply may take.")] = 600.0,
    feedback: Annotated[Path, typer.Option(help="File for replies that were marked on the page.")] = FEEDBACK,
) -> None:
    """Serve the model: an OpenAI-compatible API at /v1, and a page to talk to it."""
    check_installed("fastapi", "uvicorn", "prometheus_client")
    from theta.serve.server import address, bind, check_access, run

    check_access(host, token)
    listening = bind(host, port)
    loaded = load_model(model, dtype=dtype, in_worker=True)
    from theta.serve.app import create_app

    app = create_app(
        loaded,
        name=name,
        created=int((model / "config.json").stat().st_mtime),
        token=token,
        feedback_file=feedback,
        most_waiting=waiting,
        seconds_per_request=timeout,
    )
    url = address(listening)
    run(
        app,
        listening,
        lambda: typer.echo(f"Talk to the model at {url}, or use the API at {url}/v1. Ctrl-C ends the server."),
    )
