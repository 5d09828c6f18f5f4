"""The question of an object -> turns, whatever its name: its parts, what it is about, or a chat that leads to it."""

from collections.abc import Mapping, Sequence
from typing import Any

from theta.corpus.items import Number
from theta.corpus.shapes import messages, transcripts
from theta.corpus.shapes.content import text_of
from theta.corpus.shapes.fields import (
    CONTEXTS,
    INSTRUCTIONS,
    NO_INPUT,
    QUESTIONS,
    UnusableError,
    among,
    canonical_fields,
    first,
)
from theta.corpus.shapes.replies import parsed
from theta.corpus.shapes.turns import Place, Turn

_OTHER_QUESTIONS = (("title", "body"), ("title", "selftext"), ("message",), ("text",), ("title",))
"""What asks where nothing is called a question, but something is called a reply."""
_IMAGE_MARKS = ("<image>", "<video>", "<audio>", "<|image|>", "<image_placeholder>", "<img>")
_QUESTION_NAMES = tuple(dict.fromkeys((*INSTRUCTIONS, *QUESTIONS, *CONTEXTS)))


def keys_of(fields: Mapping[str, Any]) -> list[str]:
    """Return the names of what makes up the question: instruction, question, then what it is about."""
    names = among(_QUESTION_NAMES, fields)
    filled = [name for name in names if _says_something(fields[name])]
    if len(filled) > 1:
        filled = [name for name in filled if name not in CONTEXTS or not _is_no_input(fields[name])]
    asking = [name for name in filled if name in INSTRUCTIONS or name in QUESTIONS]
    if asking:
        return [*filled, "text"] if _is_about(fields, asking) else filled
    if fields.get("@type") == "Question" and isinstance(fields.get("name"), str):  # of schema.org
        return [name for name in ("name", "text") if fields.get(name)]
    for others in _OTHER_QUESTIONS:
        if all(name in fields for name in others) and first(others, fields):
            return [*others, *filled]
    if filled:
        return filled
    return [name for name in names if name not in CONTEXTS[1:]][:1]


def _is_about(fields: Mapping[str, Any], asking: Sequence[str]) -> bool:
    """Whether a text is what a question is about; Alpaca's repeats the question and the reply."""
    text = fields.get("text")
    if not isinstance(text, str) or not text.strip() or transcripts.may_be(text):
        return False
    words = " ".join(text.split())
    asked = [" ".join(fields[name].split()) for name in asking if isinstance(fields[name], str)]
    return not any(question in words for question in asked if question)


def _says_something(value: Any) -> bool:
    return value not in (None, "", [], {}) and not (isinstance(value, str) and not value.strip())


def _is_no_input(value: Any) -> bool:
    """Whether a context says that there is none, or is the token ids that some servers return."""
    if isinstance(value, list):
        return all(isinstance(each, Number | int) for each in value)
    return isinstance(value, str) and len(value) < _NO_INPUT_CHARACTERS and value.strip().lower() in NO_INPUT


_NO_INPUT_CHARACTERS = 20


def turns_of(fields: Mapping[str, Any], names: Sequence[str], place: Place) -> list[Turn]:
    """Return the turns of a question: one text of its parts, or the messages of a prompt."""
    if len(names) == 1 or not isinstance(fields[names[0]], str):
        turns = _prompt_turns(fields[names[0]], place)
        if turns is not None:
            return turns
    texts: list[str] = []
    for name in names:
        value = fields[name]
        text = _about(value, place) if name in CONTEXTS else _asked(value, place)
        text = _without_template(text, place)
        # A prompt often repeats the question that stands beside it.
        if text and not any(text in other for other in texts):
            texts = [other for other in texts if other not in text or len(other) < 2 or name in CONTEXTS] + [text]
    question = "\n\n".join(texts)
    if any(question.startswith(mark) or question.endswith(mark) for mark in _IMAGE_MARKS):
        raise UnusableError("needs_image")
    return [Turn("user", question)]


def _asked(value: Any, place: Place) -> str:
    """The text of a question, which may have a title."""
    if isinstance(value, dict):
        fields = canonical_fields(value, place.rules)
        names = ("title", "body", "selftext", "fulltext")
        if parts := [fields[name] for name in names if isinstance(fields.get(name), str)]:
            return "\n\n".join(text for part in parts if (text := text_of(part, place)))
    return text_of(value, place)


def _about(value: Any, place: Place) -> str:
    """The text of what a question is about: a text, several, or a table."""
    if isinstance(value, list):
        parts = [part for each in value if (part := _about(each, place))]
        return ("\n\n" if all(isinstance(each, str | dict) for each in value) else " ").join(parts)
    if isinstance(value, dict):
        fields = canonical_fields(value, place.rules)
        key = first(("text", "content", "passage", "body", "pagecontent"), fields)
        if key is not None:
            parts = [text_of(fields[name], place) for name in ("title", key) if isinstance(fields.get(name), str)]
            return "\n".join(part for part in parts if part)
    return text_of(value, place, as_json=True)


def _prompt_turns(value: Any, place: Place) -> list[Turn] | None:
    """The turns of a prompt that is a chat itself; None if it is a plain question."""
    if isinstance(value, dict) and isinstance(value.get("messages"), list):
        value = value["messages"]
    elif isinstance(value, dict) and messages.is_message(value, place.rules):
        value = [value]
    if isinstance(value, str):
        if entries := parsed(value):
            return messages.turns_of(entries, place) if messages.is_message(entries[0], place.rules) else None
        return transcripts.turns_of(value, place) or _opened(value, place)
    if isinstance(value, list) and value:
        if messages.is_message(value[0], place.rules):
            return messages.turns_of(value, place)
        if len(value) > 1 and all(isinstance(each, str) for each in value):
            # The utterances of a dialogue up to the reply: the last of them is the user's.
            sides = ("user", "assistant")
            return [Turn(sides[(len(value) - 1 - at) % 2], text_of(each, place)) for at, each in enumerate(value)]  # type: ignore[arg-type]
    return None


def _without_template(text: str, place: Place) -> str:
    """The question in a prompt that is filled into a template, such as Alpaca's."""
    turns = _opened(text, place) if "##" in text else None
    return turns[0].content if turns and len(turns) == 1 else text


_OPEN = ("Assistant:", "assistant\n", "Response:", "<|assistant|>", "[/INST]", "Answer:", "Bot:", "AI:", "ASSISTANT:")


def _opened(text: str, place: Place) -> list[Turn] | None:
    """The turns of a prompt that ends where the reply begins, such as "Human: Hi\\n\\nAssistant:"."""
    if not text.rstrip().endswith(tuple(mark.strip() for mark in _OPEN)):
        return None
    turns = transcripts.turns_of(text.rstrip() + " …", place)
    return turns[:-1] if turns and turns[-1].role == "assistant" and turns[-1].content == "…" else None
