"""`theta serve`: the model behind OpenAI's API, and a page to talk to it."""

from pathlib import Path
from typing import Annotated

import typer

from theta.cli.generation_options import FINAL, Model, load_model

FEEDBACK = Path("Datasets/feedback.jsonl")


def serve(
    model: Model = FINAL,
    host: Annotated[
        str, typer.Option(help="Address to listen at; others than this machine's need a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0 takes a free one.")] = 8000,
    token: Annotated[
        str | None, typer.Option(envvar="THETA_TOKEN", help="What clients must send as their API key.")
    ] = None,
    name: Annotated[str, typer.Option(help="What clients call the model.")] = "theta",
    rows: Annotated[int, typer.Option(min=1, help="Replies that are written at once.")] = 256,
    waiting: Annotated[int, typer.Option(min=0, help="Replies that may wait; more are refused with status 429.")] = 256,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds that a reply may take.")] = 600.0,
    feedback: Annotated[Path, typer.Option(help="File for replies that were marked on the page.")] = FEEDBACK,
) -> None:
    """Serve the model: an OpenAI-compatible API at /v1, and a page to talk to it."""
    from theta.serve.server import address, bind, check_access, run

    check_access(host, token)
    listening = bind(host, port)
    loaded = load_model(model)
    from theta.serve.app import create_app
    from theta.serve.rows import Rows

    app = create_app(
        loaded,
        Rows(loaded, rows),
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
