"""`theta plan`: what each memory plan needs for a base on a GPU, and what it does when it runs."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from theta.cli.models import Vram

if TYPE_CHECKING:
    from rich.table import Table

    from theta.cli.probe import Measured
    from theta.errors import SettingsError
    from theta.memory.forecast import Forecast
    from theta.memory.gpu import GPU
    from theta.memory.plans import Placement
    from theta.train.settings import TrainSettings

DOCUMENTS = (50, 500, 5_000, 50_000)
"""Sizes of the train split for which `auto` is shown."""

Probed = Literal["nothing", "chosen", "all"]


def plan(
    model: Annotated[
        str | None, typer.Option(help="gpt2, ..., scratch:PRESET, or a folder; without it, all of GPT-2's sizes.")
    ] = None,
    vram: Vram = None,
    tokens_per_step: Annotated[int, typer.Option(help="Value of train.tokens_per_step.")] = 16_384,
    max_length: Annotated[int, typer.Option(help="Value of tokenizer.max_length.")] = 512,
    ema: Annotated[bool, typer.Option("--ema", help="With a moving average of the weights (train.ema_decay).")] = False,
    probe: Annotated[bool, typer.Option("--probe", help="Also run the chosen plan on the GPU and measure it.")] = False,
    probe_all: Annotated[bool, typer.Option("--probe-all", help="Run and measure every plan that fits.")] = False,
    params: Annotated[Path, typer.Option(help="File with the training settings of a probe.")] = Path("params.yaml"),
) -> None:
    """Show what each plan of machine.memory needs, which one auto takes and why, and what auto sets in train."""
    from theta.memory.gpu import gpu_of

    probed: Probed = "all" if probe_all else "chosen" if probe else "nothing"
    settings = None if probed == "nothing" else _settings_of_probe(params, tokens_per_step)
    print_plans(model, gpu_of(vram), tokens_per_step, max_length, probed, settings, ema=ema)


def _settings_of_probe(params: Path, tokens_per_step: int) -> "TrainSettings":
    """Read the training settings, with this size of a step, and prepare torch for a GPU."""
    from theta.machine.process import prepare_gpu
    from theta.settings import load
    from theta.train import automatic
    from theta.train.settings import TrainSection

    section = load(params, "train", TrainSection).model_copy(update={"tokens_per_step": tokens_per_step})
    # What depends on the base changes neither its speed nor its memory, except dropout, which all hub models have.
    settings = automatic.resolve(section, automatic.PRETRAINED[1], automatic.Amount(1, 1, 1))
    prepare_gpu()  # before torch is imported
    from theta.cli.probe import require_gpu

    require_gpu()
    return settings


def print_plans(
    base: str | None,
    gpu: "GPU",
    tokens_per_step: int,
    longest: int,
    probed: Probed,
    settings: "TrainSettings | None" = None,
    *,
    ema: bool = False,
) -> None:
    """Print the plans of a base, or of each of GPT-2's sizes, which of them auto takes, and why.

    Args:
        longest: tokens of the longest document.
        probed: the plans that are also run for some steps on the GPU, if they fit.
        settings: training settings for the probe.
        ema: whether a moving average of the weights is kept.

    Raises:
        BaseModelError: the base is unknown.
        SettingsError: a step does not hold the longest document.
    """
    from theta.bases import descriptors
    from theta.bases.presets import GPT2
    from theta.cli.console import console, millions, say
    from theta.memory.forecast import automatic, forecasts, size_of_base

    shapes = {each: descriptors.shape(each) for each in ([base] if base else GPT2)}
    _check_longest(shapes, longest)
    sizes = {name: size_of_base(shape) for name, shape in shapes.items()}
    found = {name: forecasts(size, gpu, tokens_per_step, longest, ema=ema) for name, size in sizes.items()}
    out = console()
    what = f"{tokens_per_step:,} tokens a step, documents of up to {longest:,}"
    say(out, f"{gpu.description} {what}; a speed of 100 % is that of the base without a memory limit.")
    for name, size in sizes.items():
        chosen = automatic(size, gpu, tokens_per_step, longest, ema=ema)
        run = [each.placement for each in found[name] if _is_probed(each, chosen, probed)]
        measured = _measure(name, shapes[name], run, longest, settings) if settings else {}
        out.print()
        say(out, f"{name}, {millions(descriptors.parameters(shapes[name]))} parameters")
        out.print(_table(found[name], chosen, measured))
        say(out, _why(chosen, gpu))
    out.print()
    say(out, "train settings that are auto, by the number of documents of about 100 tokens without other wordings")
    out.print(_automatic_table(shapes))


def _automatic_table(shapes: Mapping[str, Mapping[str, int]]) -> "Table":
    from theta.bases import descriptors
    from theta.cli.console import table
    from theta.train import automatic

    heads = ("learning rate>", "epochs>", "tokens/step>", "updates>", "keep", "rehearsal>", "base share>", "dropout>")
    rows = table("base", "documents>", *heads)
    for name, shape in shapes.items():
        # A base is described without its weights, so a folder counts as one that Theta has not fine-tuned.
        base = {"kind": "scratch" if name.startswith(descriptors.SCRATCH) else "local", "fine_tuned": False}
        kind = automatic.kind_of(base, descriptors.parameters(shape))
        for documents in DOCUMENTS:
            amount = automatic.Amount(documents, 100 * documents, 512)
            chosen = automatic.choices(kind, amount)
            tokens = amount.tokens * chosen["epochs"] * (1 + chosen["rehearsal_share"])
            rows.add_row(
                name,
                f"{documents:,}",
                f"{chosen['learning_rate']:g}",
                f"{chosen['epochs']}",
                f"{chosen['tokens_per_step']:,}",
                f"{tokens / chosen['tokens_per_step']:,.0f}",
                *(str(chosen[each]) for each in ("keep", "rehearsal_share", "base_share", "dropout")),
            )
    return rows


def _check_longest(shapes: Mapping[str, Mapping[str, int]], longest: int) -> None:
    from theta.errors import SettingsError

    for base, shape in shapes.items():
        if not 1 <= longest <= shape["positions"]:
            raise SettingsError(f"--max-length is {longest} but must be from 1 to {shape['positions']} for {base}.")


def _is_probed(forecast: "Forecast", chosen: "Placement | SettingsError", probed: Probed) -> bool:
    wanted = probed == "all" or (probed == "chosen" and forecast.placement == chosen)
    return wanted and forecast.fits and forecast.allowed


def _measure(
    base: str, shape: Mapping[str, int], run: Sequence["Placement"], longest: int, settings: "TrainSettings"
) -> dict["Placement", "Measured"]:
    from theta.cli.console import console, say
    from theta.cli.probe import probe
    from theta.memory.forecast import size_of_base

    found = {}
    progress = console(stderr=True)
    for placement in run:
        say(progress, f"measuring {base} in plan {placement.plan.name} ...")
        found[placement] = probe(size_of_base(shape), shape["heads"], placement, longest, settings)
    return found


def _table(
    found: Sequence["Forecast"], chosen: "Placement | SettingsError", measured: Mapping["Placement", "Measured"]
) -> "Table":
    from theta.cli.console import table
    from theta.memory.plans import GIB

    more = ("measured>", "off by>", "tokens/s>") if measured else ()
    rows = table("plan", "microbatch>", "peak GiB>", "speed>", "fits", *more)
    for each in found:
        placement = each.placement
        fits = "no" if not each.fits else "yes" if each.allowed else "no bfloat16"
        rows.add_row(
            placement.plan.name,
            f"{placement.tokens_per_microbatch:,}",
            f"{placement.peak / GIB:.2f}",
            f"{100 * each.speed:.0f} %",
            "chosen" if placement == chosen else fits,
            *_measured_cells(placement, measured),
            style="bold" if placement == chosen else None,
        )
    return rows


def _measured_cells(placement: "Placement", measured: Mapping["Placement", "Measured"]) -> Iterator[str]:
    from theta.memory.plans import GIB

    if placement in measured:
        peak = measured[placement].peak_bytes
        yield f"{peak / GIB:.2f}"
        yield f"{100 * (placement.peak / peak - 1):+.1f} %"
        yield f"{measured[placement].tokens_per_second:,.0f}"


def _why(chosen: "Placement | SettingsError", gpu: "GPU") -> str:
    from theta.errors import SettingsError
    from theta.memory.plans import GIB, RESERVE_GIB, USABLE

    if isinstance(chosen, SettingsError):
        return str(chosen)
    better = "the only plan that fits" if chosen.plan.learns_worse else "the fastest that fits"
    return (
        f"machine.memory: auto takes {chosen.plan.name} with microbatches of {chosen.tokens_per_microbatch:,} tokens, "
        f"{better} into {gpu.budget / GIB:.1f} of {gpu.memory / GIB:.1f} GiB ({RESERVE_GIB:g} are reserved "
        f"for the driver and libraries, {100 * (1 - USABLE):.0f} % of the rest for the allocator)."
    )
