"""Curves of a run, written by dvclive: loss, learning rate, gradient norm and throughput.

<folder>/plots/metrics/train/{loss,learning_rate,gradient_norm,tokens_per_second}.tsv
<folder>/plots/metrics/validation/loss.tsv
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

POINTS = 400
"""Points of a training curve at most; between them steps are averaged, so long runs draw in the same time."""


def log_curves(records: Iterable[dict[str, Any]], folder: Path) -> Iterator[dict[str, Any]]:
    """Write the curves of the records that pass through."""
    from dvclive import Live

    waiting: list[dict[str, Any]] = []
    with Live(str(folder), save_dvc_exp=False, dvcyaml=None, report=None, monitor_system=False) as live:
        for record in records:
            live.step = record["step"]
            if record["kind"] == "validation":
                live.log_metric("validation/loss", record["loss"])
            else:
                waiting.append(record)
                if len(waiting) >= record["steps"] / POINTS or record["step"] == record["steps"]:
                    for name, value in _averages(waiting).items():
                        live.log_metric(f"train/{name}", value)
                    waiting = []
            yield record


def _averages(records: list[dict[str, Any]]) -> dict[str, float]:
    tokens, seconds = (sum(record[name] for record in records) for name in ("tokens", "seconds"))
    averages = {name: fmean(record[name] for record in records) for name in ("loss", "learning_rate", "gradient_norm")}
    return {**averages, "tokens_per_second": tokens / seconds}
