"""The figures of an evaluation, for metrics/evaluate.json and metrics/plots/domains.csv."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from theta import files
from theta.evaluate.likelihood import Figures, Scores, documents_by_domain, figures
from theta.text import counted
from theta.tokens.store import Store

SIGNIFICANT_DIGITS = 6
"""About the precision of float32; further digits depend on the order of a sum."""
COMPARED = ("loss_nats_per_token", "bits_per_byte", "token_accuracy")


NOTHING_HELD_BACK: Mapping[str, Any] = {"test": None, "base": None, "difference": None, "domains": {}}
"""What stands for `likelihood` without a test split."""


def likelihood(store: Store, tuned: Scores, base: Scores) -> dict[str, Any]:
    """Return the figures of the test split.

    Args:
        store: the test split.
        tuned: its scores under the fine-tuned model.
        base: its scores under the base before fine-tuning.
    """
    everything = range(len(store))
    after, before = figures(tuned, store, everything), figures(base, store, everything)
    groups = documents_by_domain(store)
    return {
        "test": after,
        "base": before,
        "difference": {name: _difference(after[name], before[name]) for name in COMPARED},
        "domains": {name: _domain(store, tuned, base, documents) for name, documents in groups.items()},
    }


def _difference(after: float | None, before: float | None) -> float | None:
    return None if after is None or before is None else after - before


def _domain(store: Store, tuned: Scores, base: Scores, documents: Sequence[int]) -> Figures:
    after, before = figures(tuned, store, documents), figures(base, store, documents)
    return {
        "loss_nats_per_token": after["loss_nats_per_token"],
        "base_loss_nats_per_token": before["loss_nats_per_token"],
        "documents": after["documents"],
    }


def rounded(value: Any) -> Any:
    """Return the value with every float in it rounded to `SIGNIFICANT_DIGITS`."""
    if isinstance(value, Mapping):
        return {key: rounded(each) for key, each in value.items()}
    return float(f"{value:.{SIGNIFICANT_DIGITS}g}") if isinstance(value, float) else value


def summary(results: Mapping[str, Any]) -> str:
    """Return what was measured, a line each, the most important first."""
    return "\n".join([*_about_answers(results.get("answers") or {}), *_about_held_out(results)])


def _about_answers(answers: Mapping[str, Any]) -> Iterator[str]:
    for how, asked in (("trained", "trained questions"), ("new_wordings", "questions in new wordings")):
        if counts := answers.get(how):
            yield (
                f"answers given: {counts['right']:,} of {counts['questions']:,} {asked} ({counts['share']:.1%}), "
                f"{counts['verbatim']:,} to the letter"
            )
    ruled_out = answers.get("ruled_out") or {"answers": 0}
    if ruled_out["answers"]:
        yield (
            f"{ruled_out['answers']:,} of these trained answers have a sequence of {ruled_out['no_repeat_ngram_size']} "
            "tokens twice, which generation.no_repeat_ngram_size rules out, so they cannot be given to the letter; "
            "reword them, or set it to 0"
        )


def _about_held_out(results: Mapping[str, Any]) -> Iterator[str]:
    test, base, replies = results["test"], results["base"], results["replies"]
    if test is None:
        yield "nothing was held back for a test (data.test_fraction is 0), so there is no loss of new replies"
        return
    before, after = (each["loss_nats_per_token"] for each in (base, test))
    losses = f"{before:.3f} nats per token before, {after:.3f} after"
    why = "; it rises when a set is learned by heart" if after > before else ""
    yield f"held-out loss, of replies that training never saw: {losses}{why}"
    if not replies["replies"]:
        yield "no held-out replies, because the test split holds only plain texts"
        return
    yield (
        f"{counted(replies['replies'], 'held-out reply', 'held-out replies')}: chrF {replies['chrf']:.1f} of 100, "
        f"{replies['ended_rate']:.0%} ended by themselves"
    )


def write_domains(path: Path, domains: Mapping[str, Figures]) -> None:
    """Write the losses by domain as CSV, for `dvc plots diff`."""
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(["domain", "loss", "base_loss", "documents"])
    for name, row in domains.items():
        rows.writerow([name, row["loss_nats_per_token"], row["base_loss_nats_per_token"], row["documents"]])
    files.write_text(path, out.getvalue())
