"""`theta release`: the model with all that is known about it, kept for good."""

from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from theta.cli.generation_options import FINAL, Model

Output = Annotated[Path, typer.Option(help="Folder of the releases.")]
MODELS = Path("models")


def release(
    model: Model = FINAL,
    output: Output = MODELS,
    name: Annotated[
        str | None, typer.Option(help="Name of the release; without it, theta_enhanced_ and the date.")
    ] = None,
) -> None:
    """Keep the model, its figures, settings and rehearsal as models/theta_enhanced_YYYYMMDD, in DVC and the registry.

    A later run may start from it. It is refused if the pipeline is not up to date, or its results are not committed.
    """
    from theta.errors import ProjectError
    from theta.export.release import MODEL, of_folder, path_of
    from theta.project import registry
    from theta.project.tools import find_root

    target = path_of(output, date.today(), name)
    try:
        root = find_root(output)
    except ProjectError:  # a folder elsewhere gets a copy that neither DVC nor git knows
        of_folder(model, target)
        typer.echo((target / MODEL).as_posix())
        return
    version = registry.release(root, model, target)
    typer.echo((target / MODEL).as_posix())
    if version:
        typer.echo(f"Registered as {registry.ARTIFACT} {version}; `gto show` lists the versions.")
    typer.echo(f"To go on from it: theta finetune --model-name {(target / MODEL).as_posix()} --data-path NEW_DATA")
    typer.echo("To share it: git push --follow-tags && dvc push")
