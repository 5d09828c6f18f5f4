"""What a run came to: metrics/train.json, and the provenance that travels with the checkpoint."""

import platform
from collections.abc import Sequence
from importlib.metadata import version
from statistics import fmean
from typing import Any


def report(records: Sequence[dict[str, Any]], epochs: int, keep: str) -> dict[str, Any]:
    """The figures of a run; no times, so that the same run gives the same bytes.

    Args:
        records: all that the loop yielded.
    """
    steps = [record for record in records if record["kind"] == "step"]
    validations = [record for record in records if record["kind"] == "validation"]
    best = min(validations, key=lambda record: record["loss"])
    kept = best if keep == "best" else validations[-1]
    planned = steps[-1]["steps"]
    last_epoch = steps[-max(1, round(planned / epochs)) :]
    return {
        "steps": len(steps),
        "steps_planned": planned,
        "stopped_early": len(steps) < planned,
        "tokens": sum(record["tokens"] for record in steps),
        "rehearsal_tokens": sum(record["rehearsal_tokens"] for record in steps),
        "train_loss": round(fmean(record["loss"] for record in last_epoch), 6),
        "validation_loss": round(kept["loss"], 6),
        "kept_step": kept["step"],
        "best_validation_loss": round(best["loss"], 6),
    }


def provenance(settings: dict[str, Any], base: dict[str, Any], compute: dict[str, Any]) -> dict[str, Any]:
    """What made the weights: settings, base, device and library versions."""
    versions = {name: version(name) for name in ("torch", "transformers", "tokenizers")}
    return {
        "settings": settings,
        "base": base,
        "compute": compute,
        "versions": {**versions, "python": platform.python_version()},
    }
