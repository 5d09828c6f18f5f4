"""Marks that say what not to learn: labels, ratings, weights and masks."""

from collections.abc import Mapping
from typing import Any

from theta.corpus.items import Number
from theta.corpus.shapes.fields import UnusableError
from theta.corpus.shapes.turns import Place, Turn

_GOOD = (
    "label", "ktotag", "rating", "feedback", "vote", "votes", "thumbs", "thumbsup", "reaction", "quality", "isgood",
    "good", "correct", "iscorrect", "accepted", "approved", "isapproved", "valid", "isvalid", "reviewresult",
    "preference", "upvoted", "liked", "desirable", "ishelpful", "helpful", "use", "keep", "include", "verdict",
    "status", "safe", "issafe", "userfeedback", "userrating", "humanrating", "helpfulness",
    "annotation", "upvotes", "stars",
)  # fmt: skip
_BAD = (
    "isbad", "bad", "deleted", "isdeleted", "hidden", "thumbsdown", "flagged", "toxic", "istoxic", "ignore", "skip",
    "skipped", "exclude", "spam", "isspam", "unsafe", "isunsafe", "disliked", "downvoted", "undesirable", "invalid",
)  # fmt: skip
_WEIGHTS = (
    "weight", "weights", "lossweight", "train", "trainable", "loss", "lossmask", "learn", "trainonthis",
    "sampleweight", "istrained", "learnable", "learned", "training", "trainmask", "trainonturn", "computeloss",
)  # fmt: skip
_MASKED = ("mask", "masked", "notrain", "donottrain", "ignoreloss", "contextonly")
_LISTS = (
    "lossmask", "lossweights", "lossweight", "weights", "weight", "trainmask", "train", "trainable", "mask", "learned",
    "turnweights", "messageweights", "assistantmask", "assistantmasks", "labels", "label",
)  # fmt: skip
_LIST_NAMES = frozenset(_LISTS)
_NO = {"false", "no", "off", "n", "f", "0"}
_YES = {"true", "yes", "on", "y", "t", "1"}
_BAD_WORDS = {
    "bad", "negative", "poor", "worst", "terrible", "awful", "thumbsdown", "down", "downvote", "dislike", "disliked",
    "rejected", "reject", "discarded", "discard", "incorrect", "wrong", "undesirable", "unacceptable", "unhelpful",
    "harmful", "low", "👎", "deleted", "spam", "unsafe", "toxic", "invalid", "dispreferred", "fail", "failed", "hide",
    "downvoted", "unsatisfactory", "verybad", "notgood", "nothelpful",
}  # fmt: skip

_RATINGS = ("stars", "upvotes", "rating", "quality", "userrating", "humanrating", "helpfulness", "helpful", "votes")

ALL = frozenset((*_GOOD, *_BAD, *_WEIGHTS, *_MASKED))
"""Names that may hold a mark; an object without them has none."""


def marked_bad(fields: Mapping[str, Any], place: Place) -> str:
    """Return the mark that calls an item or a reply bad, such as "label: false"; empty if there is none."""
    for name in _GOOD:
        if name in fields and _is_bad(name, fields[name], place):
            return f"{name}: {_shown(fields[name])}"
    for name in _BAD:
        if name in fields and _truth(fields[name]) is True:
            return f"{name}: {_shown(fields[name])}"
    return ""


def not_to_learn(fields: Mapping[str, Any]) -> str:
    """Return the mark that takes an item or a reply out of training, such as "weight: 0"; empty if there is none."""
    for name in _WEIGHTS:
        if name in fields and _is_zero(fields[name]):
            return f"{name}: {_shown(fields[name])}"
    for name in _MASKED:
        if name in fields and _truth(fields[name]) is True:
            return f"{name}: {_shown(fields[name])}"
    return ""


def without_masked(turns: list[Turn], fields: Mapping[str, Any]) -> list[Turn]:
    """Return the turns with the marks of a list beside them, such as `"loss_mask": [0, 0, 0, 1]`.

    Raises:
        UnusableError: the list has neither an entry for each message nor one for each reply.
    """
    if _LIST_NAMES.isdisjoint(fields):
        return turns
    for name in _LISTS:
        marks = fields.get(name)
        if not isinstance(marks, list) or not marks or isinstance(marks[0], list | dict):
            continue
        masked = [(_truth(mark) is True) if name == "mask" else _is_zero(mark) for mark in marks]
        replies = [place for place, turn in enumerate(turns) if turn.role == "assistant"]
        places = range(len(turns)) if len(masked) == len(turns) else replies
        if len(masked) != len(places):
            if name in ("labels", "label"):
                continue
            detail = f"{name} has {len(marks)} entries, the chat has {len(turns)} messages and {len(replies)} replies"
            raise UnusableError("mark_does_not_fit", detail)
        off = {at for at, is_masked in zip(places, masked, strict=True) if is_masked}
        turns = [
            turn._replace(learned=turn.learned and not (at in off and turn.role == "assistant"))
            for at, turn in enumerate(turns)
        ]
    return turns


def _is_bad(name: str, value: Any, place: Place) -> bool:
    if isinstance(value, dict):  # {"rating": "thumbsDown"}, {"label": "bad"}
        inner = {str(key).lower(): entry for key, entry in value.items()}
        return any(
            _is_bad(key, inner[key], place) for key in ("rating", "label", "value", "score", "type") if key in inner
        )
    if isinstance(value, bool):
        return not value
    amount = _amount(value)
    if amount is not None:
        if name in _RATINGS and amount > 0:
            place.note("unused_key", name)  # of how many steps is not said
        return amount < 0 or (amount == 0 and name not in ("votes", "upvotes", "preference", "status"))
    words = str(value).strip().strip(":").lower() if isinstance(value, str) else ""
    if words[:1] == "👎":  # whatever the colour of the hand
        return True
    return words in ("false", "no") or words.replace("_", "").replace("-", "").replace(" ", "") in _BAD_WORDS


def _is_zero(value: Any) -> bool:
    amount = _amount(value)
    return amount <= 0 if amount is not None else _truth(value) is False


def _truth(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    amount = _amount(value)
    if amount is not None:
        return amount != 0
    words = value.strip().lower() if isinstance(value, str) else ""
    return True if words in _YES else False if words in _NO else None


def _amount(value: Any) -> float | None:
    """The number that a mark is; text such as "0.0" counts, because tables write numbers so."""
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float | str)
        or (isinstance(value, str) and len(value) > 30)
    ):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, Number | str | int | float) else type(value).__name__
