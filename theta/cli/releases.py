"""`theta releases`: the releases and their main figures."""

import typer

from theta.cli.release import MODELS, Output


def releases(output: Output = MODELS) -> None:
    """List the releases with their main figures; through a pipe, as lines of tab-separated values."""
    from theta.cli.console import show
    from theta.errors import ProjectError
    from theta.export.release import all_in
    from theta.project.registry import versions
    from theta.project.results import summary
    from theta.project.tools import find_root

    found = all_in(output)
    if not found:
        typer.echo(f"There is no release in {output}; `theta release` makes one.", err=True)
        return
    try:
        root = find_root(output)
        registered = {(root / name).resolve(): version for name, version in versions(root).items()}
    except ProjectError:
        registered = {}
    rows = [
        {"release": folder.name, "version": registered.get(folder.resolve()), **summary(folder)} for folder in found
    ]
    show(rows)
