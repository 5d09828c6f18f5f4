"""`theta release`: a dated copy of a model, from which later runs may start."""

from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from theta.cli.generation_options import FINAL, Model


def release(
    model: Model = FINAL,
    output: Annotated[Path, typer.Option(help="Folder of the releases.")] = Path("models"),
) -> None:
    """Copy the model to models/theta_enhanced_YYYYMMDD/theta_final, from which a later run may start."""
    from theta.export.release import release as copy

    copied = copy(model, output, date.today())
    typer.echo(
        f"{copied}\nTo continue from it, set model.base: {copied.as_posix()}. "
        f"To share it: dvc add {copied.parent.as_posix()}"
    )
