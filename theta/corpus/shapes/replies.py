"""What a reply consists of: a text, a message, several messages, or the best of several answers."""

import math
from collections.abc import Sequence
from typing import Any

from theta.corpus.shapes import messages, transcripts
from theta.corpus.shapes.content import listed, text_of
from theta.corpus.shapes.fields import CHOSEN, REPLIES, SEVERAL_REPLIES, canonical_fields, first
from theta.corpus.shapes.turns import Place, Turn

_SCORES = (
    "isaccepted", "accepted", "selected", "isselected", "chosen", "isbest", "best", "iscorrect", "score", "votes",
    "upvotes", "pmscore", "overallscore", "points", "likes", "upvotecount", "rating", "vote",
)  # fmt: skip
_RANKS = ("rank", "ranking", "position")
_WRAPPERS = ("choices", "generations", "candidates", "outputs", "completions")
"""What programming interfaces put around the replies of a model."""
_ANSWER_TEXTS = (
    "answer",
    "text",
    "body",
    "content",
    "value",
    "message",
    "answertext",
    "markdown",
    "response",
    "inputtext",
)


def reply_turns(value: Any, place: Place, *, key: str) -> list[Turn]:  # noqa: PLR0911
    """Return the turns of a reply: a text, a message, messages, or the best of several answers."""
    if isinstance(value, str):
        if listed_messages := parsed(value):
            if messages.is_message(listed_messages[0]):
                return messages.turns_of(listed_messages, place)
        elif key in CHOSEN and (turns := transcripts.turns_of(value, place)) and turns[0].role == "user":
            return turns
        return [Turn("assistant", text_of(value, place))]
    if value in ({}, []):
        return [Turn("assistant", "")]
    if isinstance(value, dict):
        return _of_object(value, place)
    if isinstance(value, list):
        if value and messages.is_message(value[0], place.rules):
            return messages.turns_of(value, place)
        if key in SEVERAL_REPLIES or key in CHOSEN or (value and isinstance(value[0], dict)) or key in REPLIES:
            return _best(value, place)
    return [Turn("assistant", text_of(value, place, as_json=True))]


def _of_object(value: dict[str, Any], place: Place) -> list[Turn]:
    """The turns of a reply within an object, such as the answer of a programming interface."""
    fields = canonical_fields(value, place.rules)
    if isinstance(fields.get("messages"), list):
        return messages.turns_of(fields["messages"], place)
    if isinstance(fields.get("message"), dict):
        fields = canonical_fields(fields["message"], place.rules)
    for name in ("body", "content"):
        if isinstance(fields.get(name), dict):
            fields = canonical_fields(fields[name], place.rules)
    for name in _WRAPPERS:
        if isinstance(fields.get(name), list) and any(isinstance(each, dict) for each in fields[name]):
            return _best(fields[name], place)
    if messages.is_message(fields, place.rules):
        return [turn._replace(role="assistant" if turn.role == "unknown" else turn.role, fault=turn.fault)
                for turn in messages.turns_of([fields], place)]  # fmt: skip
    if (rows := _rows(value)) is not None:
        return _best(rows, place)
    if all(held == [] for held in value.values()):  # SQuAD's question without an answer, by column
        return [Turn("assistant", "")]
    return [Turn("assistant", answer_text(value, place))]


def _rows(value: dict[str, Any]) -> list[dict[str, Any]] | None:
    """Answers that are kept by column, as {"text": [...], "score": [...]}."""
    columns = {key: held for key, held in value.items() if isinstance(held, list)}
    if "text" not in columns or len(columns) < 2:
        return None
    count = len(columns["text"])
    if count < 2 or any(len(column) != count for column in columns.values()):
        return None
    return [{key: column[at] for key, column in columns.items()} for at in range(count)]


def _best(answers: Sequence[Any], place: Place) -> list[Turn]:
    """The accepted answer, or the one with the most votes, or the first."""
    filled = [answer for answer in answers if answer not in (None, "", {}, []) and not _is_thought(answer)]
    if not filled:
        return [Turn("assistant", "")]
    if all(isinstance(answer, dict) and answer.get("type") in ("text", "output_text", "thinking") for answer in filled):
        return [Turn("assistant", text_of(filled, place))]
    if not all(isinstance(answer, dict | str) for answer in filled):
        return [Turn("assistant", text_of(filled, place, as_json=True))]
    texts = {str(answer_text(answer, place)) for answer in filled}
    if len(texts) > 1:
        place.note("chosen", "one of several answers")
    scored = [(_score(answer, place), -at, answer) for at, answer in enumerate(filled)]
    return reply_turns(max(scored, key=lambda each: each[:2])[2], place, key="")


def _is_thought(answer: Any) -> bool:
    """Whether it is what a model wrote to itself, beside its reply among the outputs."""
    return isinstance(answer, dict) and answer.get("type") == "reasoning"


def _score(answer: Any, place: Place) -> tuple[float, ...]:
    if not isinstance(answer, dict):
        return (0.0,) * (len(_SCORES) + 1)
    fields = canonical_fields(answer, place.rules)
    rank = next((_float(fields[name]) for name in _RANKS if name in fields), 0.0)
    return (*(_float(fields.get(name)) for name in _SCORES), -rank)


def _float(value: Any) -> float:
    if isinstance(value, str) and value.strip().lower() in ("true", "yes"):
        return 1.0
    try:
        amount = float(value)
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return 0.0 if math.isnan(amount) else amount


def answer_text(value: Any, place: Place) -> str:
    """Return the text of an answer that may be an object."""
    if isinstance(value, dict):
        fields = canonical_fields(value, place.rules)
        key = first(_ANSWER_TEXTS, fields)
        if key is not None and (len(value) == 1 or isinstance(fields[key], str | list)):
            inner = fields[key]
            if isinstance(inner, list) and all(isinstance(each, str) for each in inner):
                inner = inner[0]  # wordings of one answer
            return text_of(inner, place, as_json=True)
    return text_of(value, place, as_json=True)


def parsed(text: str) -> list[Any] | None:
    """Return the list of objects or lists that a text holds, as tables keep it; None if it holds none."""
    value = listed(text)
    return value if value is not None and any(isinstance(entry, dict | list) for entry in value) else None
