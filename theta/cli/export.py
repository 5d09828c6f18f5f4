"""`theta export`: a finished model in the format of another program."""

from pathlib import Path
from typing import Annotated

import typer

from theta.cli.generation_options import FINAL, Model
from theta.export.formats import Format, write


def export(
    name: Annotated[
        Format, typer.Argument(metavar="FORMAT", help="gguf (llama.cpp, Ollama, LM Studio), ctranslate2 or onnx.")
    ],
    model: Model = FINAL,
    output: Annotated[
        Path | None,
        typer.Option(help="New folder.", show_default="FORMAT, beside the model; of a release RELEASE_FORMAT"),
    ] = None,
) -> None:
    """Write a model in the format of another program, and compare the two."""
    from theta.export.release import beside
    from theta.generate.folder import check

    check(model)
    output = output or beside(model, name)
    write(name, model, output)
    megabytes = sum(path.stat().st_size for path in output.rglob("*")) / 1e6
    typer.echo(f"{output}: {megabytes:.1f} MB, checked against {model}")
