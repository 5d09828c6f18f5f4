"""The options that commands which write replies share: the model, its number format, and the generation parameters."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from theta.text import visible

if TYPE_CHECKING:
    from theta.generate.assistant import ThetaModel

FINAL = Path("models/theta_final")


def _model_in(folder: Path) -> Path:
    from theta.export.release import model_in

    return model_in(folder)


Model = Annotated[Path, typer.Option(help="Folder of the model, or of a release.", callback=_model_in)]
Dtype = Annotated[
    str,
    typer.Option(
        help="Number format: auto; float32; bfloat16, in which a reply on a GPU may depend on the others of a batch; "
        "or int8, the fastest on a CPU."
    ),
]
Seed = Annotated[int | None, typer.Option(help="The same seed gives the same reply.")]
System = Annotated[str | None, typer.Option(help="System message that opens the conversation.")]

# The ranges are checked by theta.generate.settings, with the same messages as for params.yaml and Python callers.
PARAMETERS: dict[str, Any] = {
    "max_length": Annotated[int | None, typer.Option(help="Maximum tokens to generate, 1 to 1024.")],
    "temperature": Annotated[float | None, typer.Option(help="Randomness, 0.1 to 2.0.")],
    "top_p": Annotated[float | None, typer.Option(help="Nucleus sampling threshold, 0.0 to 1.0.")],
    "top_k": Annotated[int | None, typer.Option(help="Tokens to choose from, 1 to 100.")],
    "repetition_penalty": Annotated[float | None, typer.Option(help="Penalty for repetition, 1.0 to 2.0.")],
    "no_repeat_ngram_size": Annotated[
        int | None, typer.Option(help="No sequence of this many tokens twice, 0 (off) to 5.")
    ],
}


def with_generation_parameters(command: Callable[..., None]) -> Callable[..., None]:
    """Add an option for each generation parameter to a command, which receives their values as `parameters`."""
    own = [each for each in inspect.signature(command).parameters.values() if each.name != "parameters"]
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in PARAMETERS.items()
    ]

    def run(**values: Any) -> None:
        from theta.generate.settings import GenerationSettings

        parameters = {name: values.pop(name) for name in PARAMETERS}
        GenerationSettings.checked(**parameters)
        check_seed(values.get("seed"))
        command(**values, parameters=parameters)

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    own = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own]
    run.__signature__ = inspect.Signature([*own, *options])  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in [*own, *options]}
    return run


def load_model(folder: Path, *, dtype: str = "auto", soon: bool = False, in_worker: bool = False) -> "ThetaModel":
    """Load the model of a folder, with a sign of life in a terminal.

    A wrong folder is refused before the imports, which take seconds; the options are those of `ThetaModel.load`, or
    with `in_worker` those of `ThetaModel.load_in_worker`.
    """
    from rich.console import Console
    from rich.text import Text

    from theta.generate.folder import check

    check(folder)
    words = Text(f"Loading {visible(str(folder))}", no_wrap=True, overflow="ellipsis")
    with Console(stderr=True).status(words):
        from theta.generate.assistant import ThetaModel

        if in_worker:
            return ThetaModel.load_in_worker(folder, dtype=dtype)
        return ThetaModel.load(folder, dtype=dtype, soon=soon)


def check_seed(seed: Any) -> None:
    """Refuse what is not a seed before the model is loaded, which takes seconds.

    Raises:
        SettingsError: the seed is not None and not a whole number from 0 to 2**63 - 1.
    """
    from theta.errors import SettingsError

    is_whole = isinstance(seed, int) and not isinstance(seed, bool)
    if seed is not None and not (is_whole and 0 <= seed < 2**63):
        raise SettingsError(f"seed is {seed!r} but must be a whole number from 0 to {2**63 - 1}.")
