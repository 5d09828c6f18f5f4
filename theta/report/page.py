"""metrics/report.html: what a run was and what became of it, on one page that asks nothing of another host.

Figures that were not measured are left out. The page has no date: the same figures give the same page.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import UndefinedError
from markdown_it import MarkdownIt
from markupsafe import Markup
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from theta import settings
from theta.errors import DataError, reason
from theta.evaluate import plots
from theta.evaluate.settings import RIGHT_CHRF
from theta.text import counted

REPLIES_SHOWN = 500
"""The most replies of a kind on the page."""
KINDS = {
    "new wording": "Trained questions in new wordings",
    "trained": "Trained questions",
    "test": "Questions of the test split, which training never saw",
}
CURVE_ROWS = 20
"""The most rows of the table behind the loss curves."""

Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Facts:
    """What the page shows.

    Attributes:
        prepare, tokenize, train, evaluate: the metrics of the stages.
        replies: the entries of metrics/replies.yaml.
        data_report: Datasets/prepared/report.md.
        data: models/base/data.json, which describes the files of the data.
        settings: params.yaml without the section `machine`.
        defaults: the sections of params.yaml as Theta comes.
        provenance: provenance.json of the checkpoint.
        train_curve, validation_curve: (step, loss) of each point.
        lengths: (upper edge of a bin in tokens, documents) of each bin.
    """

    prepare: Values
    tokenize: Values
    train: Values
    evaluate: Values
    replies: Sequence[Values]
    data_report: str
    data: Values
    settings: Mapping[str, Values]
    defaults: Mapping[str, Values]
    provenance: Values
    train_curve: Sequence[plots.Point]
    validation_curve: Sequence[plots.Point]
    lengths: Sequence[plots.Point]


@dataclass(frozen=True, slots=True)
class Headline:
    """A figure of the run, with the words that it needs."""

    label: str
    value: str
    note: str


def page(facts: Facts) -> str:
    """Return the page.

    Raises:
        LookupError, TypeError, ValueError: a file has another structure than its stage writes.
    """
    environment = plots.templates(Path(__file__).parent)
    environment.filters["words"] = words
    try:
        return environment.get_template("page.html").render(facts=facts, **_content(facts))
    except UndefinedError as fault:
        raise LookupError(str(fault)) from None


def _content(facts: Facts) -> dict[str, Any]:
    """Return what the template shows beside the facts themselves."""
    answers, domains = facts.evaluate.get("answers"), facts.evaluate["domains"]
    return {
        "replies": list(_replies(facts.replies)),
        "right_chrf": RIGHT_CHRF,
        "answers": answers,
        "by_heart": _is_learned_by_heart(facts),
        "headlines": list(headlines(facts)),
        "loss": plots.loss_curves(facts.train_curve, facts.validation_curve),
        "loss_rows": list(_loss_rows(facts)),
        "losses": list(_losses(facts.train)),
        "answer_bars": plots.answer_bars(answers) if answers else None,
        "answer_rows": list(_answer_rows(answers or {})),
        "domains": plots.domain_bars(domains),
        "domain_rows": [
            (name, row["loss_nats_per_token"], row["base_loss_nats_per_token"], row["documents"])
            for name, row in domains.items()
        ],
        "lengths": plots.length_histogram(facts.lengths),
        "splits": list(_splits(facts.prepare["conversations"])),
        "dropped": list(_dropped(facts)),
        "data_report": _html(facts.data_report),
        "changed": list(changed_settings(facts)),
        "chosen": list(chosen_settings(facts)),
        "provenance": list(_provenance(facts)),
        "chart_style": Markup(plots.style()),
    }


def defaults() -> dict[str, Any]:
    """Return the settings that Theta comes with, by section: defaults.yaml is a copy of the shipped params.yaml."""
    return settings.read(Path(__file__).parent / "defaults.yaml")


def read_replies(path: Path) -> list[dict[str, Any]]:
    """Read metrics/replies.yaml.

    Raises:
        DataError: the file is missing, or is not YAML.
    """
    try:
        replies = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; run `dvc repro` to create it.") from None
    except (YAMLError, ValueError) as fault:
        raise DataError(f"{path} is not valid YAML ({reason(fault)}); run `dvc repro` to recreate it.") from None
    return list(replies)


def headlines(facts: Facts) -> Iterator[Headline]:
    """Yield the main figures, the most important first."""
    evaluate, train = facts.evaluate, facts.train
    for how, label in (("trained", "Trained questions answered"), ("new_wordings", "The same in new wordings")):
        counts = (evaluate.get("answers") or {}).get(how)
        if counts:
            yield Headline(
                label,
                f"{counts['share']:.1%}",
                f"{counts['right']:,} of {counts['questions']:,}; {counts['verbatim']:,} to the letter",
            )
    if evaluate["test"]:
        before, after = (evaluate[name]["loss_nats_per_token"] for name in ("base", "test"))
        note = "nats per token, before and after fine-tuning; lower is better"
        yield Headline("Held-out loss", f"{before:.2f} → {after:.2f}", note)
    if train.get("rehearsal_loss") is not None:
        yield Headline(
            "Rehearsal loss",
            f"{train['rehearsal_loss']:.2f}",
            "nats per token, on the base's own conversations, in the last epoch",
        )
    replies = evaluate["replies"]
    if replies["replies"]:
        yield Headline(
            "Held-out replies",
            f"chrF {replies['chrf']:.0f}",
            f"of 100, {counted(replies['replies'], 'reply', 'replies')}; {replies['ended_rate']:.0%} ended by "
            "themselves",
        )


def summary(evaluate: Values) -> dict[str, float]:
    """Return the few figures by which runs are compared, for metrics/summary.json; `dvc metrics show` prints them.

    The names are short, because DVC prints a column for each in one line.

    Returns:
        answered, new_wordings: the share of questions that get their answer, as they were trained and in new wordings.
        test_loss, base_loss: nats per token of held-out replies, after and before fine-tuning.
        chrf: of the held-out replies, 0 to 100.
    """
    answers = evaluate.get("answers") or {}
    named = {
        "answered": answers.get("trained"),
        "new_wordings": answers.get("new_wordings"),
        "test_loss": evaluate["test"],
        "base_loss": evaluate["base"],
        "chrf": evaluate["replies"],
    }
    keys = {"answered": "share", "new_wordings": "share", "chrf": "chrf"}
    found = {name: (section or {}).get(keys.get(name, "loss_nats_per_token")) for name, section in named.items()}
    return {name: float(f"{value:.4g}") for name, value in found.items() if value is not None}


def changed_settings(facts: Facts) -> Iterator[tuple[str, str, str]]:
    """Yield the name, the value and the default of each setting that is not as Theta comes."""
    defaults = dict(_flat(facts.defaults))
    for name, value in _flat(facts.settings):
        if value != defaults.get(name):
            yield name, words(value), words(defaults.get(name))


def chosen_settings(facts: Facts) -> Iterator[tuple[str, str]]:
    """Yield the name and the value of each setting of training that was chosen because it is `auto`."""
    used = {**facts.provenance.get("settings", {}), **facts.train.get("settings", {})}
    for name, value in facts.settings.get("train", {}).items():
        if value == "auto" and used.get(name) not in (None, "auto"):
            yield f"train.{name}", words(used[name])


def words(value: Any) -> str:
    """Return a value of JSON or YAML as a person writes it."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return f"{value:,.6g}" if abs(value) < 1e6 else f"{value:,.0f}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {words(each)}" for name, each in value.items()) or "–"
    return ", ".join(map(words, value)) or "–" if isinstance(value, list) else str(value)


def _loss_rows(facts: Facts) -> Iterator[tuple[float, float | None, float | None]]:
    """Yield the step, the train loss of the last point up to it, and the validation loss, for some of the points."""
    validation = dict(facts.validation_curve)
    steps = [step for step, _ in facts.validation_curve or facts.train_curve]
    for step in steps[:: -(-len(steps) // CURVE_ROWS)]:
        before = [value for at, value in facts.train_curve if at <= step]
        yield step, before[-1] if before else None, validation.get(step)


def _is_learned_by_heart(facts: Facts) -> bool:
    """Whether the model became much surer of its own replies, and less sure of those that it never saw."""
    train, test, base = facts.train.get("train_loss"), facts.evaluate["test"], facts.evaluate["base"]
    if train is None or not test:
        return False
    after, before = test["loss_nats_per_token"], base["loss_nats_per_token"]
    return bool(before < after and train < after / 2)


LOSSES = {
    "train_loss": "train, in the last epoch",
    "rehearsal_loss": "rehearsal, in the last epoch",
    "best_validation_loss": "validation, at its lowest",
    "trained_validation_loss": "validation, of the kept step",
    "validation_loss": "validation, of the model as it was saved (with train.base_share of the base's weights)",
}


def _losses(train: Values) -> Iterator[tuple[str, float]]:
    return ((what, train[name]) for name, what in LOSSES.items() if train.get(name) is not None)


def _answer_rows(answers: Values) -> Iterator[tuple[str, str, str]]:
    for name, row in {"all": answers, **(answers.get("domains") or {})}.items():
        counts = [row.get(how) for how in ("trained", "new_wordings")]
        said = [f"{each['right']:,} of {each['questions']:,}" if each else "–" for each in counts]
        yield name, *said


def _replies(entries: Sequence[Values]) -> Iterator[tuple[str, Sequence[Values], int]]:
    """Yield the title, the replies to show and the number of replies of each kind."""
    for kind, title in KINDS.items():
        replies = [entry for entry in entries if entry.get("kind", "test") == kind]
        if replies:
            yield title, replies[:REPLIES_SHOWN], len(replies)


def _splits(conversations: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    names = ["train", "validation", "test"]
    for name in [*names, *(name for name in conversations if name not in names)]:
        if name in conversations:
            yield name.replace("_", " "), conversations[name]


def _dropped(facts: Facts) -> Iterator[tuple[str, str]]:
    """Yield what did not reach training as it was, and how much of it."""
    prepare = facts.prepare
    if prepare.get("duplicates"):
        yield "conversations that repeat another", words(prepare["duplicates"])
    if prepare.get("over_cap"):
        yield "conversations above data.caps", words(prepare["over_cap"])
    for section, what in (("rejected_by_reason", "rejected"), ("mended", "mended"), ("unused_keys", "text not used")):
        for name, count in prepare.get(section, {}).items():
            yield f"{what}: {name}", words(count)
    for name, why in prepare.get("files_unreadable", {}).items():
        yield f"file not read: {name}", why
    for name, what in (
        ("exchanges_dropped", "exchanges too long for tokenizer.max_length"),
        ("replies_cut", "replies cut at tokenizer.max_length"),
    ):
        count = sum(split.get(name, 0) for split in facts.tokenize.values())
        if count:
            yield what, words(count)


def _provenance(facts: Facts) -> Iterator[tuple[str, str]]:
    base, data = facts.provenance["base"], facts.data
    yield "base", base["name"]
    if base.get("revision"):
        yield "revision of the base", base["revision"]
    for name, digest in base["files"].items():
        yield f"SHA-256 of the base's {name}", digest
    yield "data", facts.settings["data"]["path"]
    if data.get("revision"):
        yield "revision of the data", data["revision"]
    for file in data["files"] if data["kind"] == "local" else ():
        yield f"SHA-256 of {file['name']}", file["sha256"]
    for section in ("compute", "machine", "versions"):
        for name, value in facts.provenance.get(section, {}).items():
            yield f"{section}: {name}", words(value)


def _flat(sections: Mapping[str, Values]) -> Iterator[tuple[str, Any]]:
    for section, values in sections.items():
        for name, value in values.items():
            yield f"{section}.{name}", value


def _html(markdown: str) -> Markup:
    """Return Markdown as HTML, with headings two levels lower; HTML in the source is shown as text."""
    renderer = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = renderer.parse(markdown)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(int(token.tag[1]) + 2, 6)}"
    return Markup(renderer.renderer.render(tokens, renderer.options, {}))
