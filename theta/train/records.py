"""Summaries of the records of a run: curves of its losses, metrics/train.json, and the provenance of the checkpoint.

<folder>/plots/metrics/train/{loss,learning_rate,gradient_norm,tokens_per_second}.tsv
<folder>/plots/metrics/validation/loss.tsv

A loss over several steps is the sum of their nats divided by the sum of their learned tokens.
"""

import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from theta.files import write_text
from theta.text import counted
from theta.train.settings import TrainSettings

if TYPE_CHECKING:
    from dvclive import Live

FEW_STEPS = 30
"""With fewer updates than this, no base here gave its trained answers."""

LEAST_FALL = 0.05
"""A training loss that fell by less than this fraction hardly moved."""

POINTS = 400
"""The most points of a training curve. Steps between two points are combined, so long runs are drawn as quickly."""


def log_curves(records: Iterable[dict[str, Any]], folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the records unchanged, and write their curves with dvclive."""
    from dvclive import Live

    waiting: list[dict[str, Any]] = []
    with Live(str(folder), save_dvc_exp=False, dvcyaml=None, report=None, monitor_system=False) as live:
        for record in records:
            if record["kind"] == "validation":
                live.step = record["step"]
                live.log_metric("validation/loss", record["loss"])
            else:
                waiting.append(record)
                if len(waiting) >= record["steps"] / POINTS:
                    _draw(live, waiting)
                    waiting = []
            yield record
        _draw(live, waiting)
    if not (validation := folder / "plots" / "metrics" / "validation" / "loss.tsv").is_file():
        write_text(validation, "step\tloss\n")  # nothing is held back, and later stages read the file


def _draw(live: "Live", steps: Sequence[dict[str, Any]]) -> None:
    """Draw one point of each training curve for these steps, at the last of them."""
    if not steps:
        return
    live.step = steps[-1]["step"]
    tokens, seconds = (sum(step[name] for step in steps) for name in ("tokens", "seconds"))
    values = {name: fmean(step[name] for step in steps) for name in ("learning_rate", "gradient_norm")}
    values["tokens_per_second"] = tokens / seconds
    if (loss := loss_of(steps)) is not None:
        values["loss"] = loss
    for name, value in values.items():
        live.log_metric(f"train/{name}", value)


def loss_of(steps: Iterable[dict[str, Any]], prefix: str = "") -> float | None:
    """Nats per learned token of these steps; None if they have no learned token.

    Args:
        prefix: "" for the data, "rehearsal_" for the rehearsal.
    """
    nats, tokens = 0.0, 0
    for step in steps:
        nats += step[f"{prefix}nats"]
        tokens += step[f"{prefix}learned_tokens"]
    return nats / tokens if tokens else None


def report(records: Sequence[dict[str, Any]], settings: TrainSettings, validation_loss: float | None) -> dict[str, Any]:
    """Return the figures of a run, without times, so that the same run gives the same bytes.

    Args:
        records: all records that the loop yielded.
        settings: of the run; those that may be `auto` are among the figures.
        validation_loss: of the weights that were saved; None if nothing is held back.

    Returns:
        first_train_loss: of the first steps, a twentieth of them.
        train_loss, rehearsal_loss: of the steps of the last epoch, during training.
        validation_loss: of the saved weights, with the share of the base.
        trained_validation_loss: of the kept step, before the base was mixed in.
    """
    steps = [record for record in records if record["kind"] == "step"]
    validations = [record for record in records if record["kind"] == "validation"]
    best = min(validations, key=lambda record: record["loss"], default=None)
    kept = best if settings.keep == "best" else (validations or steps)[-1]
    assert kept, "the best weights are kept without a validation"
    planned = steps[-1]["steps"]
    last_epoch = steps[-max(1, round(planned / settings.epochs)) :]
    losses = {
        "first_train_loss": loss_of(steps[: -(-planned // 20)]),
        "train_loss": loss_of(last_epoch),
        "rehearsal_loss": loss_of(last_epoch, "rehearsal_"),
        "validation_loss": validation_loss,
        "trained_validation_loss": kept["loss"] if best else None,
        "best_validation_loss": best["loss"] if best else None,
    }
    return {
        "steps": len(steps),
        "steps_planned": planned,
        "stopped_early": len(steps) < planned,
        "tokens": sum(record["tokens"] for record in steps),
        "rehearsal_tokens": sum(record["rehearsal_tokens"] for record in steps),
        "kept_step": kept["step"],
        **{name: round(loss, 6) for name, loss in losses.items() if loss is not None},
        "settings": {name: getattr(settings, name) for name in TrainSettings.__annotations__},
    }


def learned_little(figures: Mapping[str, Any], settings: TrainSettings) -> str | None:
    """Return a warning of a run that can hardly have learned anything, with the remedy; None of another one.

    Args:
        figures: of the run, as `report` returns them.
    """
    steps, first, last = figures["steps"], figures.get("first_train_loss"), figures.get("train_loss")
    if steps < FEW_STEPS and not figures["stopped_early"]:
        return (
            f"the weights were updated only {counted(steps, 'time')}, and with fewer than about {FEW_STEPS} updates "
            f"little is learned; lower train.tokens_per_step ({settings.tokens_per_step}), raise train.epochs "
            f"({settings.epochs}), or set both to auto."
        )
    if first and last and last > (1 - LEAST_FALL) * first:
        return (
            f"the training loss hardly moved, from {first:.3f} to {last:.3f} nats per token, so the replies are much "
            f"as before; raise train.learning_rate ({settings.learning_rate:g}) or train.epochs ({settings.epochs}), "
            "or set both to auto."
        )
    return None


def provenance(
    settings: dict[str, Any],
    automatic: Sequence[str],
    base: dict[str, Any],
    machine: dict[str, Any],
    compute: dict[str, Any],
) -> dict[str, Any]:
    """Return the origin of the weights: settings, base, machine settings, the choices made, and library versions.

    Args:
        settings: of training, each with a value.
        automatic: the names of those that were `auto`.
    """
    versions = {name: version(name) for name in ("torch", "transformers", "tokenizers")}
    return {
        "settings": settings,
        "automatic": list(automatic),
        "base": base,
        "machine": machine,
        "compute": compute,
        "versions": {**versions, "python": platform.python_version()},
    }
