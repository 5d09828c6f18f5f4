"""`theta schema`: the JSON schema of params.yaml."""

from pathlib import Path
from typing import Annotated

import typer


def schema(
    output: Annotated[Path | None, typer.Option(help="File to write; without it, standard output.")] = None,
) -> None:
    """Write the JSON schema of params.yaml, for editors."""
    import json

    from theta import files, settings
    from theta.params import SECTIONS

    value = settings.schema(SECTIONS)
    if output is None:
        typer.echo(json.dumps(value, indent=2, sort_keys=True))
    else:
        files.write_json(output, value)
