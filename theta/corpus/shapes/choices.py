"""A question with options, one of which is right -> the question with its options, and the text of the right one.

{"question": "Which is a bird?", "choices": ["cod", "wren"], "answer": 1}
"""

from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import Any

from theta.corpus.items import Number
from theta.corpus.shapes import questions
from theta.corpus.shapes.content import text_of
from theta.corpus.shapes.fields import INSTRUCTIONS, QUESTIONS, REPLIES, UnusableError, canonical_fields, first
from theta.corpus.shapes.turns import Place, Turn

_OPTIONS = ("choices", "options", "answerchoices", "alternatives", "answeroptions", "multiplechoice", "endings")
_PREFIXES = ("", "option", "op", "choice", "answer")
_SIGNS = frozenset((*_OPTIONS, *(f"{prefix}b" for prefix in _PREFIXES)))
_ASKED = (*QUESTIONS, *INSTRUCTIONS)
_RIGHT = ("answerkey", "answer", "correctanswer", "correct", "answerindex", "answeridx", "answerid", "correctoption",
          "correctindex", "correctanswerindex", "correctchoice", "correctid", "label", "cop", "gold", "goldindex",
          "target", "solution", "output", "response")  # fmt: skip


def turns_of(fields: Mapping[str, Any], place: Place, used: set[str]) -> list[Turn] | None:
    """Return the turns of a question with options; None if it has none, or if its answer is none of them.

    Raises:
        UnusableError: it is not said which option is right.
    """
    if isinstance(asked := fields.get("question"), dict) and "stem" in asked and "choices" in asked:
        fields = {**fields, "question": asked["stem"], "choices": asked["choices"]}
        used.add("question")
    if _SIGNS.isdisjoint(fields):
        return None
    asked = next((name for name in _ASKED if isinstance(fields.get(name), str)), None)
    found = _options(fields, place) if asked else None
    if asked is None or found is None:
        return None
    names, options = found
    right = first(_RIGHT, {name: entry for name, entry in fields.items() if name not in names})
    if right is None:
        raise UnusableError("unknown_shape", f"which of {', '.join(options)} is right is not said")
    reply = _chosen(fields[right], options, place)
    if reply is None:
        if right in REPLIES:
            return None
        raise UnusableError("unknown_shape", f"{right} names none of {', '.join(options)}")
    used.update((*names, right))
    about = [name for name in questions.keys_of(fields) if name not in names and name != right]
    used.update(about)
    turns = questions.turns_of(fields, about, place)
    listed = "\n".join(f"{label}. {text}" for label, text in options.items())
    content = turns[-1].content
    if not all(text in content for text in options.values()):  # many questions list their options themselves
        turns[-1] = turns[-1]._replace(content=f"{content}\n\n{listed}")
    return [*turns, Turn("assistant", reply)]


def _options(fields: Mapping[str, Any], place: Place) -> tuple[Sequence[str], dict[str, str]] | None:
    """The names that hold options, and the options by their letters."""
    for name in _OPTIONS:
        if name in fields and (options := _listed(fields[name], place)):
            return (name,), options
    for prefix in _PREFIXES:
        names = [f"{prefix}{letter}" for letter in "abcde" if isinstance(fields.get(f"{prefix}{letter}"), str)]
        if len(names) > 2 and names[0] == f"{prefix}a":
            return names, {name[-1].upper(): text_of(fields[name], place) for name in names}
    return None


def _listed(value: Any, place: Place) -> dict[str, str] | None:
    if isinstance(value, dict):
        columns = canonical_fields(value, place.rules)
        texts, labels = columns.get("text"), columns.get("label")
        if isinstance(texts, list) and isinstance(labels, list) and len(texts) == len(labels):
            return _by_label(labels, texts, place)
        if len(value) > 1 and all(len(str(key)) < 3 for key in value):
            return _by_label(list(value), list(value.values()), place)
        return None
    if not isinstance(value, list) or not 1 < len(value) <= len(ascii_uppercase):
        return None
    if all(isinstance(entry, dict) for entry in value):
        rows = [canonical_fields(entry, place.rules) for entry in value]
        if all("text" in row and "label" in row for row in rows):
            return _by_label([row["label"] for row in rows], [row["text"] for row in rows], place)
    return _by_label(ascii_uppercase[: len(value)], value, place)


def _by_label(labels: Sequence[Any], texts: Sequence[Any], place: Place) -> dict[str, str] | None:
    if not all(isinstance(text, str) and text for text in texts):
        return None
    return {str(label): text_of(text, place) for label, text in zip(labels, texts, strict=True)}


def _chosen(answer: Any, options: Mapping[str, str], place: Place) -> str | None:
    """The text of the option that an answer names by its letter, its place or its text."""
    if isinstance(answer, bool) or not isinstance(answer, str | int):
        return None
    said = text_of(answer, place)
    for label, text in options.items():
        if said == text or said.strip("().: ").casefold() == label.strip("().: ").casefold():
            return text
    if (isinstance(answer, int | Number) or said.isascii()) and said.isdecimal() and int(said[:9]) < len(options):
        return list(options.values())[int(said)]
    return None
