"""What `theta plan` and `theta models` print."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich import box
from rich.console import Console
from rich.table import Table

from theta.bases import descriptors
from theta.bases.hub import CONFIG
from theta.bases.presets import GPT2, PRESETS
from theta.errors import SettingsError
from theta.memory import promises
from theta.memory.forecast import Forecast, automatic, forecasts, size_of_base
from theta.memory.gpu import Card
from theta.memory.plans import GIB, RESERVE_GIB, USABLE, Choice, Size

if TYPE_CHECKING:
    from theta.cli.probe import Measured

Probed = Literal["nothing", "chosen", "all"]


def print_plans(base: str | None, card: Card, tokens_per_step: int, longest: int, probed: Probed) -> None:
    """A table for a base, or for each of GPT-2's sizes: its plans, and which one `train.memory: auto` takes and why.

    Args:
        longest: tokens of the longest document.
        probed: the plans that are also run for some steps on the GPU, if they fit.

    Raises:
        BaseModelError: the base is not known.
        SettingsError: a step does not hold the longest document, or there is no GPU for a probe.
    """
    shapes = {each: descriptors.shape(each) for each in ([base] if base else GPT2)}
    _check_longest(shapes, longest)
    sizes = {name: size_of_base(shape) for name, shape in shapes.items()}
    found = {name: forecasts(size, card, tokens_per_step, longest) for name, size in sizes.items()}
    if probed != "nothing":
        from theta.cli.probe import require_gpu

        require_gpu()
    console = _console()
    what = f"{tokens_per_step:,} tokens a step, documents of up to {longest:,}"
    _say(console, f"{card.words} {what}; a speed of 100 % is what the base reaches where memory has no limit.")
    for name, size in sizes.items():
        chosen = automatic(size, card, tokens_per_step, longest)
        run = [each.choice for each in found[name] if each.fits and each.allowed and _is_probed(each, chosen, probed)]
        measured = _measure(name, size, shapes[name]["heads"], run, tokens_per_step, longest)
        console.print()
        _say(console, f"{name}, {_millions(descriptors.parameters(shapes[name]))} parameters")
        console.print(_plan_table(found[name], chosen, measured))
        _say(console, _why(chosen, card))


def print_models(card: Card, releases: Path) -> None:
    """The bases with what is promised of them and the memory that they need, and the one for the card.

    Args:
        releases: folder of the models that `theta release` copied, which are bases, too.
    """
    console = _console()
    table = _table("model.base", "parameters>", "promised VRAM>", "needs>", "speed")
    for promise in promises.PROMISES:
        table.add_row(*_model_row(promise.base, f"{promise.gigabytes} GB", promise.speed))
    folders = sorted(file.parent for file in releases.glob(f"theta_enhanced_*/theta_final/{CONFIG}"))
    for base in [*(descriptors.SCRATCH + name for name in PRESETS), *(folder.as_posix() for folder in folders)]:
        table.add_row(*_model_row(base, "", ""))
    console.print(table)
    _say(
        console,
        f"Needs: the peak of training every weight, in plan leanest with {promises.TOKENS_PER_STEP:,} tokens a step; "
        "`theta plan` shows what more memory buys.",
    )
    name = promises.recommended(card.memory)
    if name is None:
        _say(console, f"{card.words} No base is promised for so little; `theta plan --model gpt2` shows what fits.")
    else:
        _say(console, f"{card.words} Recommended: {name}, the largest base that is promised for so much memory.")


def _check_longest(shapes: Mapping[str, Mapping[str, int]], longest: int) -> None:
    for base, shape in shapes.items():
        if not 1 <= longest <= shape["positions"]:
            raise SettingsError(f"--max-length is {longest}, allowed for {base} is 1 to {shape['positions']}.")


def _is_probed(forecast: Forecast, chosen: Choice | SettingsError, probed: Probed) -> bool:
    return probed == "all" or (probed == "chosen" and forecast.choice == chosen)


def _measure(
    base: str, size: Size, heads: int, run: Sequence[Choice], tokens_per_step: int, longest: int
) -> dict[Choice, "Measured"]:
    found = {}
    progress = _console(stderr=True)
    for choice in run:
        from theta.cli.probe import probe

        _say(progress, f"measuring {base} in plan {choice.plan.name} ...")
        found[choice] = probe(size, heads, choice.plan, choice.tokens_per_microbatch, tokens_per_step, longest)
    return found


def _plan_table(
    found: Sequence[Forecast], chosen: Choice | SettingsError, measured: Mapping[Choice, "Measured"]
) -> Table:
    more = ("measured>", "off by>", "tokens/s>") if measured else ()
    table = _table("plan", "microbatch>", "peak GiB>", "speed>", "fits", *more)
    for each in found:
        choice = each.choice
        fits = "no" if not each.fits else "yes" if each.allowed else "no bfloat16"
        table.add_row(
            choice.plan.name,
            f"{choice.tokens_per_microbatch:,}",
            f"{choice.peak / GIB:.2f}",
            f"{100 * each.speed:.0f} %",
            "chosen" if choice == chosen else fits,
            *_measured_cells(choice, measured),
            style="bold" if choice == chosen else None,
        )
    return table


def _measured_cells(choice: Choice, measured: Mapping[Choice, "Measured"]) -> Iterator[str]:
    if choice in measured:
        peak = measured[choice].peak_bytes
        yield f"{peak / GIB:.2f}"
        yield f"{100 * (choice.peak / peak - 1):+.1f} %"
        yield f"{measured[choice].tokens_per_second:,.0f}"


def _why(chosen: Choice | SettingsError, card: Card) -> str:
    if isinstance(chosen, SettingsError):
        return str(chosen)
    return (
        f"train.memory: auto takes {chosen.plan.name} with microbatches of {chosen.tokens_per_microbatch:,} tokens, "
        f"the fastest that fits into {card.budget / GIB:.1f} of {card.memory / GIB:.1f} GiB ({RESERVE_GIB:g} are left "
        f"to the driver and libraries, {100 * (1 - USABLE):.0f} % of the rest to the allocator)."
    )


def _model_row(base: str, promised: str, speed: str) -> tuple[str, ...]:
    shape = descriptors.shape(base)
    need = promises.need(base, size_of_base(shape))
    origin = "measured" if need.measured else "predicted"
    return base, _millions(descriptors.parameters(shape)), promised, f"{need.gib:.1f} GiB, {origin}", speed


def _millions(count: int) -> str:
    return f"{count / 1e6:,.0f}M"


def _table(*columns: str) -> Table:
    """An empty table; `>` at the end of a name puts its column to the right."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for place, name in enumerate(columns):
        right = name.endswith(">")
        table.add_column(
            name.removesuffix(">"), justify="right" if right else "left", overflow="fold", no_wrap=place > 0
        )
    return table


def _console(stderr: bool = False) -> Console:
    """Through a pipe lines are as long as they come."""
    console = Console(stderr=stderr, highlight=False)
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, width=200)


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, soft_wrap=True)
