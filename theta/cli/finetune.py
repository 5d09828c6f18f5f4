"""`theta finetune`: go on from a model with new data, in one command that leaves the workspace as it is."""

from pathlib import Path
from typing import Annotated, Any

import typer


def _option(name: str, words: str) -> Any:
    """An option that may also be written with underscores."""
    return typer.Option(f"--{name}", f"--{name.replace('-', '_')}", help=words)


def finetune(
    data_path: Annotated[str, _option("data-path", "File or folder of new conversations, or hf://datasets/NAME.")],
    model_name: Annotated[
        str, _option("model-name", "Folder of a release or a model, or a name on the hub such as gpt2.")
    ] = "models/theta_final",
    output_dir: Annotated[Path | None, _option("output-dir", "New folder; without it, models/theta_continued.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the new data; without it, train.epochs.")] = None,
    learning_rate: Annotated[
        float | None, _option("learning-rate", "Peak of the schedule; without it, train.learning_rate.")
    ] = None,
    rehearsal_share: Annotated[
        float | None,
        _option(
            "rehearsal-share",
            "Tokens of what the base knows for each token of new data; without it, train.rehearsal_share.",
        ),
    ] = None,
) -> None:
    """Fine-tune a model on new data. What it knew is rehearsed, so that it goes on giving its old answers.

    The pipeline runs as an experiment of DVC in a copy of the project with the settings of params.yaml. The workspace
    stays as it is. After Ctrl-C or a kill, the same command goes on.
    """
    from theta.experiments.finetune import Request, base_of, finetune
    from theta.export.release import free
    from theta.project.tools import find_root

    root = find_root(Path())
    data = _data(root, data_path)
    given = {"epochs": epochs, "learning_rate": learning_rate, "rehearsal_share": rehearsal_share}
    request = Request(
        root=root,
        base=_released(root, base_of(root, model_name)),
        data=data,
        output=output_dir or free(root / "models/theta_continued"),
        train={name: value for name, value in given.items() if value is not None},
    )
    try:
        name = finetune(request)
    except KeyboardInterrupt:
        typer.echo("The same command goes on from where this one stopped.", err=True)
        raise
    _tell(request.output, name)


def _data(root: Path, path: str) -> str:
    """Return the data as `data.path` names it.

    Raises:
        DataError: there is no such file or folder.
    """
    from theta.errors import DataError
    from theta.experiments.finetune import named

    if path.startswith("hf://"):
        return path
    if not Path(path).expanduser().exists():
        raise DataError(f"--data-path is {path}, which does not exist; name a file or a folder of conversations.")
    return named(root, path)


def _tell(output: Path, experiment: str) -> None:
    from theta.export.release import MODEL

    here = Path.cwd()
    model = ((output.relative_to(here) if output.is_relative_to(here) else output) / MODEL).as_posix()
    typer.echo(f"{model}\nTo talk to it: theta chat --model {model}")
    typer.echo(f"To compare it: theta compare workspace {experiment}\nTo keep it: theta release --model {model}")


def _released(root: Path, base: str) -> str:
    """Return the base; for the project's own model, which the pipeline replaces, a release of it, made if need be."""
    from datetime import date

    from theta.experiments.finetune import release_of
    from theta.export.release import MODEL, path_of
    from theta.project import registry

    if base != registry.FINAL:
        return base
    found = release_of(root)
    if found is None:
        target = path_of(root / "models", date.today(), None)
        registry.release(root, root / base, target)
        found = target / MODEL
        typer.echo(f"Released {base} as {found.parent.relative_to(root).as_posix()}, to start from it.")
    return found.relative_to(root).as_posix()
