"""`theta models`: the bases, what is promised for each, and the one to choose for a GPU."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from theta.memory.gpu import GPU

Vram = Annotated[float | None, typer.Option(help="Memory of the GPU in GiB; without it, that of this machine's GPU.")]
RELEASES = Path("models")


def models(vram: Vram = None) -> None:
    """List the bases with the memory that they need, and the one recommended for the GPU."""
    from theta.memory.gpu import gpu_of

    print_models(gpu_of(vram), RELEASES)


def print_models(gpu: "GPU", releases: Path) -> None:
    """Print the bases with what is promised for them and the memory that they need, and the one for the GPU.

    Args:
        releases: folder of the models that `theta release` copied, which can be bases, too.
    """
    from theta.bases.descriptors import SCRATCH
    from theta.bases.hub import CONFIG
    from theta.bases.presets import PRESETS
    from theta.cli.console import console, say, table
    from theta.memory import promises

    rows = table("model.base", "parameters>", "promised VRAM>", "needs>", "speed")
    for promise in promises.PROMISES:
        rows.add_row(*_row(promise.base, f"{promise.gigabytes} GB", promise.speed))
    folders = sorted(file.parent for file in releases.glob(f"*/theta_final/{CONFIG}"))
    for base in [*(SCRATCH + name for name in PRESETS), *(folder.as_posix() for folder in folders)]:
        rows.add_row(*_row(base, "", ""))
    out = console()
    out.print(rows)
    say(
        out,
        f"Needs: the peak of training every weight, in plan leanest with {promises.TOKENS_PER_STEP:,} tokens a step; "
        "`theta plan` shows what more memory gains.",
    )
    name = promises.recommended(gpu.memory)
    if name is None:
        say(out, f"{gpu.description} No base is promised for it; `theta plan --model gpt2` shows what fits.")
    else:
        say(out, f"{gpu.description} Recommended: {name}, the largest base that is promised for this memory.")


def _row(base: str, promised: str, speed: str) -> tuple[str, ...]:
    from theta.bases import descriptors
    from theta.cli.console import millions
    from theta.memory import promises
    from theta.memory.forecast import size_of_base

    shape = descriptors.shape(base)
    need = promises.need(base, size_of_base(shape))
    origin = "measured" if need.measured else "predicted"
    return base, millions(descriptors.parameters(shape)), promised, f"{need.gib:.1f} GiB, {origin}", speed
