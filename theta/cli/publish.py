"""`theta publish`: send a model to a hub, a folder or a DVC remote; without --send, only show what would be sent."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from theta.cli.generation_options import FINAL, Model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from theta.export.publish import File


def publish(
    model: Model = FINAL,
    hub: Annotated[str | None, typer.Option(help="Repository of the Hugging Face hub, such as me/assistant.")] = None,
    folder: Annotated[Path | None, typer.Option(help="New folder to copy it to.")] = None,
    remote: Annotated[
        str | None, typer.Option(help="Name of a DVC remote, which gets a release with its data.")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="Make a new repository of the hub public.")] = False,
    send: Annotated[bool, typer.Option("--send", help="Send it; without this, nothing leaves this machine.")] = False,
) -> None:
    """Publish a model. Without --send, show which files would be sent where, and check the model card."""
    from theta.errors import SettingsError
    from theta.export import publish

    if [hub, folder, remote].count(None) != 2:
        raise SettingsError("Name one target: --hub USER/NAME, --folder PATH or --remote NAME.")
    if remote is not None:
        _to_remote(model, remote, send=send)
        return
    files = publish.contents(model)
    publish.check_card(model)
    _list(files, f"the hub's {'public' if public else 'private'} repository {hub}" if hub else str(folder))
    if not send:
        typer.echo("Nothing was sent; add --send to send it.")
    elif hub:
        typer.echo(publish.to_hub(model, hub, private=not public, message=f"Publish {model.as_posix()}"))
    elif folder:
        publish.to_folder(model, folder)
        typer.echo(folder.as_posix())


def _list(files: "Sequence[File]", target: str) -> None:
    from theta.cli.console import console, say, show

    show([{"file": file.name, "MB": file.size / 1e6} for file in files])
    size = sum(file.size for file in files) / 1e6
    say(console(), f"{len(files)} files, {size:.1f} MB, to {target}")


def _to_remote(model: Path, remote: str, *, send: bool) -> None:
    """Push what DVC tracks of a model: a whole release, or the project's own model."""
    from theta.errors import ProjectError
    from theta.export.publish import File
    from theta.export.release import MODEL
    from theta.project.tools import dvc, find_root

    root = find_root(model)
    known = _remotes(dvc(root, "config", "--list"))
    if remote not in known:
        raise ProjectError(
            f"DVC has no remote {remote!r} (its remotes: {', '.join(known) or 'none'}); add it with "
            f"`dvc remote add {remote} URL`."
        )
    whole = model.resolve() if model.resolve() == (root / "models" / MODEL).resolve() else model.resolve().parent
    name = whole.relative_to(root.resolve()).as_posix()
    files = [path for path in sorted(whole.rglob("*")) if path.is_file()]
    _list(
        [File(path.relative_to(whole).as_posix(), path.stat().st_size) for path in files], f"{remote}, {known[remote]}"
    )
    if send:
        dvc(root, "push", "--remote", remote, name)
        typer.echo(f"Sent. After `git push`, others run `dvc pull --remote {remote} {name}`.")
    else:
        typer.echo("Nothing was sent; add --send to send it.")


def _remotes(listed: str) -> dict[str, str]:
    """Return the address of each remote, from the configuration: `dvc remote list` breaks long addresses into lines."""
    return dict(re.findall(r"(?m)^(?:.*\t)?remote\.(.+)\.url=(.*)$", listed))
