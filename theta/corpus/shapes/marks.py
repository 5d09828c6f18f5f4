"""Marks that say what not to learn: labels, ratings, weights and masks.

They stand beside the text, or one or two levels down in an object about it: {"meta": {"label": false}}. Their names
vary more than other names do, so true and false are also understood under names such as `was_helpful` or
`bad_answer`, and what looks like a mark but is not understood is named. So is what may as well mean something else,
such as a sentiment in `label`, or a rating of 0 that nobody gave: losing good data is no better than learning bad data.
"""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Literal

from theta.corpus.items import Number
from theta.corpus.shapes.fields import CHOSEN, KNOWN, UnusableError, canonical
from theta.corpus.shapes.turns import Place, Turn
from theta.text import counted

_GOOD = (
    "label", "ktotag", "rating", "feedback", "vote", "votes", "thumbs", "thumbsup", "reaction", "quality", "isgood",
    "good", "correct", "iscorrect", "approved", "isapproved", "valid", "isvalid", "reviewresult",
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

_CLASSES = re.compile(r".*(?:label|status|annotation)")
"""Names that hold classes as often as marks."""
_CLASS_WORDS = {"negative", "low", "down"}
"""Bad words that are classes, too: of a sentiment, a priority or a service."""

_RATINGS = ("stars", "upvotes", "rating", "quality", "userrating", "humanrating", "helpfulness", "helpful", "votes")
_ZERO_IS_NO_VOTE = ("votes", "upvotes", "preference", "status")
_ZERO_IS_UNCLEAR = (
    "stars", "rating", "quality", "userrating", "humanrating", "helpfulness", "reaction", "thumbs", "thumbsup",
    "feedback", "userfeedback", "vote",
)  # fmt: skip
"""Names under which 0 may be the worst, or stand between -1 and 1, or say that nobody has judged."""

ALL = frozenset((*_GOOD, *_BAD, *_WEIGHTS, *_MASKED))
"""Names that hold a mark, whatever its type."""

_ABOUT = frozenset((
    "meta", "metadata", "info", "extra", "extras", "details", "attributes", "properties", "custom", "annotation",
    "annotations", "review", "reviews", "evaluation", "assessment", "judgement", "judgment", "moderation", "grading",
    "feedback", "userfeedback", "humanfeedback", "rating", "ratings", "label", "labels", "quality", "marks", "flags",
    "scores", "training", "verdict", "userrating", "humanrating",
))  # fmt: skip
"""Names of objects, or lists of objects, that say something about what stands beside them."""
_LEVELS = 2
_LONGEST_NAME = 30

_Kind = Literal["good", "bad", "weight", "masked", ""]
_STEMS: dict[str, _Kind] = {
    **dict.fromkeys(("good", "ok", "okay", "helpful", "useful", "usable", "correct", "approved", "valid",
                     "acceptable", "satisfactory", "safe", "passed", "liked", "upvoted", "included", "kept", "use",
                     "keep", "include", "right", "thumb", "thumbs"), "good"),
    **dict.fromkeys(("bad", "wrong", "incorrect", "invalid", "rejected", "reject", "deleted", "removed", "flagged",
                     "toxic", "unsafe", "harmful", "spam", "unhelpful", "excluded", "exclude", "skipped", "skip",
                     "discarded", "discard", "disliked", "downvoted", "hidden", "ignored", "ignore", "poor",
                     "failed", "unusable", "lowquality"), "bad"),
    **dict.fromkeys(("fortraining", "intraining", "fortrain", "totrain", "tolearn"), "weight"),
    **dict.fromkeys(("notuse", "notlearn", "nottrain", "notinclude", "notkeep"), "masked"),
}  # fmt: skip
_BEFORE = re.compile(
    r"(?:is|was|are|has|been|marked|as|do|to|should|used?|include|human|user|annotator|reviewer|review|expert|final|"
    r"overall|quality|answer|response|reply|output|completion|item|sample|example|conversation)*?"
)
_AFTER = re.compile(r"(?:answer|response|reply|output|completion|item|sample|example|conversation|quality|flag|mark)?")
_JUDGED = re.compile(
    r"(?:human|user|review|reviewer|annotator|expert|final|overall|answer|response|reply|quality|rating|feedback)*"
    r"(?:label|status|verdict|rating|feedback|vote|quality|review|decision|judgement|judgment|thumb|thumbs|result)"
)
"""Names of marks that are words, such as "review_status": "rejected"."""
_LOOKS_SO = re.compile(
    r"good|bad|helpful|correct|reject|approv|accept|valid|usable|quality|rating|feedback|label|toxic|unsafe|harm|spam"
    r"|thumb|vote|exclu|skip|ignore|flag|delet|wrong|mask|weight|train"
)
_RATES = re.compile(r"score|rating|quality|stars")


def may_hold(fields: Mapping[str, Any]) -> bool:
    """Whether an object, by its canonical names, has marks; a quick look that may say so too often."""
    return any(_is_name(name) or (name in _ABOUT and isinstance(fields[name], dict | list)) for name in fields)


@lru_cache(maxsize=4096)
def _is_name(name: str) -> bool:
    if name in ALL or name == "rejected":
        return True
    if name in KNOWN or len(name) > _LONGEST_NAME or not name.isalpha():  # a question or an id as a key
        return False
    return bool(_kind(name) or _JUDGED.fullmatch(name) or _LOOKS_SO.search(name) or _RATES.search(name))


@lru_cache(maxsize=4096)
def _kind(name: str) -> _Kind:
    """What true means under a name that only resembles those of marks."""
    if name in KNOWN or len(name) > _LONGEST_NAME:
        return ""
    for stem, kind in _STEMS.items():
        before, found, after = name.partition(stem)
        if found and _BEFORE.fullmatch(before) and _AFTER.fullmatch(after):
            return kind
    return ""


def marked_bad(fields: Mapping[str, Any], place: Place) -> str:
    """Return the mark that calls an item or a reply bad, such as "label: false"; empty if there is none."""
    for path, level in _levels(fields):
        for name in _GOOD:
            if name in level and _is_bad(name, level[name]):
                return f"{path}{name}: {_shown(level[name])}"
        for name in _BAD:
            if name in level and _truth(level[name]) is True and not _is_fraction(level[name]):
                return f"{path}{name}: {_shown(level[name])}"
        for name, value in level.items():
            if _is_bad_by_another_name(name, value, level):
                return f"{path}{name}: {_shown(value)}"
    _note_unused(fields, place)
    return ""


def not_to_learn(fields: Mapping[str, Any]) -> str:
    """Return the mark that takes an item or a reply out of training, such as "weight: 0"; empty if there is none."""
    for path, level in _levels(fields):
        for name in _WEIGHTS:
            if name in level and _is_zero(level[name]):
                return f"{path}{name}: {_shown(level[name])}"
        for name in _MASKED:
            if name in level and _truth(level[name]) is True:
                return f"{path}{name}: {_shown(level[name])}"
        for name, value in level.items():
            if isinstance(value, bool) and _kind(name) == ("masked" if value else "weight"):
                return f"{path}{name}: {_shown(value)}"
    return ""


def note_ignored(fields: Mapping[str, Any], place: Place) -> None:
    """Note a mark of an object to which it cannot apply, such as one that holds several conversations."""
    holds_something = any(isinstance(value, list | dict) and name not in _ABOUT for name, value in fields.items())
    if holds_something and (mark := marked_bad(fields, place) or not_to_learn(fields)):
        place.note("unused_mark", mark)


def _levels(fields: Mapping[str, Any], path: str = "", depth: int = 0) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield an object, and the objects in it that are about it, each with the path to it.

    Of a list, only a single object counts: several may be by several people, who do not agree.
    """
    yield path, fields
    if depth == _LEVELS:
        return
    for name, value in fields.items():
        if name in _ABOUT or depth:
            inner = value[0] if isinstance(value, list) and len(value) == 1 else value
            if isinstance(inner, dict):
                named = {canonical(str(key)): entry for key, entry in inner.items()}
                yield from _levels(named, f"{path}{name}.", depth + 1)


def _is_bad_by_another_name(name: str, value: Any, level: Mapping[str, Any]) -> bool:
    if name == "rejected":  # in a preference pair it holds the other reply
        return value is True and not any(other in level for other in CHOSEN)
    if isinstance(value, bool):
        return name not in ALL and _kind(name) == ("bad" if value else "good")
    return isinstance(value, str) and name not in KNOWN and bool(_JUDGED.fullmatch(name)) and _is_bad_word(name, value)


def _note_unused(fields: Mapping[str, Any], place: Place) -> None:
    """Note what looks like a mark and is not understood: numbers of an unknown scale, and names of unknown meaning."""
    for path, level in _levels(fields):
        for name, value in level.items():
            if _is_unclear(name, value, is_within=bool(path)):
                place.note("unused_mark", f"{path}{name}")


def _is_unclear(name: str, value: Any, *, is_within: bool) -> bool:
    if name in _ABOUT and isinstance(value, list) and len(value) > 1 and isinstance(value[0], dict):
        inner = [{canonical(str(key)) for key in entry} for entry in value if isinstance(entry, dict)]
        return any(not names.isdisjoint(ALL) for names in inner)
    if isinstance(value, bool):
        return name not in ALL and not _kind(name) and name not in KNOWN and bool(_LOOKS_SO.search(name))
    amount = _amount(value)
    if amount is None:
        return isinstance(value, str) and _is_class(name, value)
    return _is_unclear_amount(name, amount, is_within=is_within)


def _is_unclear_amount(name: str, amount: float, *, is_within: bool) -> bool:
    if name in _WEIGHTS:
        return amount not in (0, 1)
    if name in _BAD:
        return 0 < amount < 1
    if amount == 0:
        return name in _ZERO_IS_UNCLEAR
    if name == "label":  # with more values than 0 and 1, it is a class
        return amount > 1
    return amount > 0 and (name in _RATINGS or (_RATES.search(name) is not None and (is_within or name != "score")))


def without_masked(turns: list[Turn], fields: Mapping[str, Any]) -> list[Turn]:
    """Return the turns with the marks of a list beside them, such as `"loss_mask": [0, 0, 0, 1]`.

    Raises:
        UnusableError: the list has neither an entry for each message nor one for each reply.
    """
    for name, marks in _lists(fields):
        masked = [(_truth(mark) is True) if name == "mask" else _is_zero(mark) for mark in marks]
        replies = [place for place, turn in enumerate(turns) if turn.role == "assistant"]
        places = range(len(turns)) if len(masked) == len(turns) else replies
        if len(masked) != len(places):
            if name in ("labels", "label"):
                continue
            entries = counted(len(marks), "entry", "entries")
            chat = f"{counted(len(turns), 'message')} and {counted(len(replies), 'reply', 'replies')}"
            raise UnusableError("mark_does_not_fit", f"{name} has {entries}, the chat has {chat}")
        off = {at for at, is_masked in zip(places, masked, strict=True) if is_masked}
        turns = [
            turn._replace(learned=turn.learned and not (at in off and turn.role == "assistant"))
            for at, turn in enumerate(turns)
        ]
    return turns


def _lists(fields: Mapping[str, Any]) -> Iterator[tuple[str, list[Any]]]:
    """Yield the lists of marks beside the messages or in an object about them, where `labels` may also be words."""
    if _LIST_NAMES.isdisjoint(fields) and _ABOUT.isdisjoint(fields):
        return
    for path, level in _levels(fields):
        for name in _LISTS:
            marks = level.get(name)
            if not isinstance(marks, list) or not marks or isinstance(marks[0], list | dict):
                continue
            if not path or isinstance(marks[0], bool | int | float | Number):
                yield name, marks


def _is_bad(name: str, value: Any) -> bool:
    if isinstance(value, dict):  # {"label": {"value": "bad"}}
        inner = {str(key).lower(): entry for key, entry in value.items()}
        return any(_is_bad(name, inner[key]) for key in ("value", "score", "type") if key in inner)
    if isinstance(value, bool):
        return not value
    amount = _amount(value)
    if amount is not None:
        return amount < 0 or (amount == 0 and name not in _ZERO_IS_NO_VOTE and name not in _ZERO_IS_UNCLEAR)
    return isinstance(value, str) and (value.strip().lower() in ("false", "no") or _is_bad_word(name, value))


def _is_bad_word(name: str, value: str) -> bool:
    words = value.strip().strip(":").lower()
    # A thumb that points down means the same in each colour of the hand.
    is_bad = words[:1] == "👎" or words.replace("_", "").replace("-", "").replace(" ", "") in _BAD_WORDS
    return is_bad and not _is_class(name, value)


def _is_class(name: str, value: str) -> bool:
    """Whether a word that would be bad as a mark may be a class."""
    return value.strip().lower() in _CLASS_WORDS and bool(_CLASSES.fullmatch(name))


def _is_fraction(value: Any) -> bool:
    """Whether it is a probability, such as that a text is toxic, of which nobody knows how large is too large."""
    return 0 < (_amount(value) or 0) < 1


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
