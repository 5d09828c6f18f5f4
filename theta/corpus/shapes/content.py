"""The text of a value: text, numbers, parts of a message, and what of them cannot be learned."""

import ast
import json
import math
import re
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from theta.conversation.messages import Message
from theta.corpus.items import Number
from theta.corpus.shapes.cleaning import clean
from theta.corpus.shapes.fields import INSTRUCTIONS, QUESTIONS, WORDINGS, UnusableError, first, is_empty
from theta.corpus.shapes.turns import Place, Turn

_THOUGHTS = {"thinking", "reasoning", "redacted_thinking", "reasoning_text", "thoughts", "reasoning_recap", "thought"}
_TOOLS = {"tool_use", "tool_result", "tool_call", "function_call", "function", "tool_calls", "function_response",
          "execution_output", "server_tool_use"}  # fmt: skip
_MEDIA = {"image", "image_url", "input_image", "audio", "input_audio", "video", "video_url", "file", "input_file",
          "document", "image_asset_pointer", "audio_url", "multimodal_text_image"}  # fmt: skip
_MEDIA_KEYS = ("image", "image_url", "audio", "video", "input_audio", "asset_pointer", "inline_data", "inlineData")
_TOOL_KEYS = ("functionCall", "functionResponse", "function_call", "toolUse", "toolResult")
_TEXT_KEYS = ("text", "value", "content", "parts", "input_text", "output_text", "body", "refusal")
_PART_KEYS = {
    "type", "text", "value", "content", "parts", "content_type", "annotations", "cache_control", "name", "role",
    "contentType", "msgtype", "format", "formatted_body", "refusal", "block_type",
}  # fmt: skip


def text_of(value: Any, place: Place, *, between: str = "\n", as_json: bool = False) -> str:  # noqa: PLR0911
    """Return the text of a value, cleaned; a missing value is empty text.

    Args:
        value: text, a number, parts of a message, or an object that holds one of these.
        place: where it was found.
        between: what joins the parts of a list.
        as_json: whether an object or a list of anything else becomes its JSON text: it is what a reply consists of.

    Raises:
        UnusableError: the value is not text, needs an image, or calls a tool.
    """
    if isinstance(value, str):
        if isinstance(value, Number):
            return _number(value)
        return clean(value, repair_encoding=place.rules.repair_encoding)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool) and as_json:
        return json.dumps(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _number(str(value))
    if isinstance(value, list | dict) and not holds_tuple(value):
        parts = _parts(value, place)
        if parts is not None:
            return clean(between.join(part for part in parts if part), repair_encoding=place.rules.repair_encoding)
        if as_json:
            return _json(value)
    raise unlearnable(value)


WITHOUT_QUESTION = "wordings without their question left out"


def wordings_of(fields: Mapping[str, Any], place: Place) -> tuple[str, ...]:
    """Return the other ways to ask that an object names; what cannot be read is noted.

    They are a list of texts, a text of several lines, or a list as JSON in a text, as tables keep it. Each may be an
    object that holds a text, and lists may be nested.
    """
    return tuple(text for name in WORDINGS if name in fields for text in _wordings(fields[name], place, is_all=True))


def _wordings(value: Any, place: Place, *, is_all: bool = False) -> list[str]:
    """The wordings in a value; `is_all` says that the value is all that an object names, so that it may be missing."""
    if isinstance(value, list):
        return [text for entry in value for text in _wordings(entry, place)]
    if isinstance(value, str) and not isinstance(value, Number):
        if is_all:
            lines = [line for line in value.split("\n") if line.strip()]
            return _wordings(lines if (held := listed(value.strip())) is None else held, place)
        if text := text_of(value, place):
            return [text]
    elif isinstance(value, dict) and (name := next((key for key in _WORDING_KEYS if value.get(key)), None)):
        return _wordings(value[name], place)
    if not (is_all and is_empty(value)):
        place.note("mended", f"wording left out ({_kind_of(value)})")
    return []


_WORDING_KEYS = ("text", "question", "wording", "content", "value")


def _kind_of(value: Any) -> str:
    if isinstance(value, Number | int | float) and not isinstance(value, bool):
        return "a number"
    kinds = {str: "empty", type(None): "empty", bool: "true or false", tuple: "a key that stands twice"}
    return kinds.get(type(value), "an object without a text")


def asked_text(fields: Mapping[str, Any], place: Place) -> str:
    """Return the question of an object where one key holds it; empty if none does."""
    name = first((*INSTRUCTIONS, *QUESTIONS), fields)
    value = fields[name] if name else None
    return text_of(value, place) if isinstance(value, str) else ""


def asked_otherwise(message: Message | Turn, asked: str, wordings: Iterable[str], place: Place) -> tuple[str, ...]:
    """Return the wordings of a message, its own and others; what follows the question in it follows them, too.

    Args:
        message: its text begins with `asked`.
        asked: the question that the others are wordings of; empty for the whole message.
    """
    rest = message.content[len(asked) :] if asked else ""
    return distinct([*message.wordings, *(f"{wording}{rest}" for wording in wordings)], message.content, place)


def distinct(wordings: Iterable[str], question: str, place: Place) -> tuple[str, ...]:
    """Return the wordings that differ from the question and from each other in more than white space.

    Those that differ in case or punctuation stay: people type so, and the tokens are others.
    """
    found = {_without_space(question): ""}
    for wording in wordings:
        normal = _without_space(wording)
        if normal in found:
            place.note("mended", "repeated wording left out")
        else:
            found[normal] = wording
    return tuple(filter(None, found.values()))


def _without_space(text: str) -> str:
    """The text with single spaces; one of several lines may be code, whose white space counts."""
    return text if "\n" in text else " ".join(text.split())


def listed(text: str) -> list[Any] | None:
    """Return the list that a text is, written as JSON or as Python writes it, as tables keep it; None if it is none."""
    if text[:1] != "[" or text[-1:] != "]":
        return None
    try:
        value = json.loads(text, parse_float=Number, parse_int=Number, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        value = _python_list(text) if _PYTHON_LIST.match(text) and len(text) <= _MOST_CHARACTERS else None
    return value if isinstance(value, list) else None


_PYTHON_LIST = re.compile(r"""\[\s*[\[{'"]""")
_ENTRY = re.compile(r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|\})(\s+(?=['"{]))?""")
"""The end of an entry, and white space that stands for the comma after it, as NumPy writes lists."""
_MOST_CHARACTERS = 4_000_000


def _python_list(text: str) -> Any:
    """The value of Python's literal; None if it is none."""
    with_commas = _ENTRY.sub(lambda entry: f"{entry[1]}, " if entry[2] else entry[1], text)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a backslash that begins no escape
            return ast.literal_eval(with_commas)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None


def unlearnable(value: Any) -> UnusableError:
    """Return the error about content that is not text."""
    if holds_tuple(value):
        return UnusableError("key_twice")
    return UnusableError("content_not_text", type(value).__name__)


def holds_tuple(value: Any) -> bool:
    """Whether a value holds an object with a key that stands twice; the reader gives it as a tuple."""
    if isinstance(value, list):
        return any(map(holds_tuple, value))
    if isinstance(value, dict):
        return any(map(holds_tuple, value.values()))
    return isinstance(value, tuple)


def _number(written: str) -> str:
    if "e" in written.lower() and math.isinf(float(written)):
        raise UnusableError("number_too_large", written)
    return written


def _parts(value: Any, place: Place) -> list[str] | None:  # noqa: PLR0911
    """The texts of the parts of a message; None if they are none."""
    if isinstance(value, list):
        found = [_parts(part, place) for part in value]
        return None if None in found else [text for texts in found if texts for text in texts]
    if value is None:
        return []
    if isinstance(value, str):
        return [value]
    if not isinstance(value, dict):
        return None
    kind = str(value.get("type", value.get("content_type", "")))
    if kind in _THOUGHTS or value.get("thought") is True:
        place.note("mended", "thinking left out")
        return []
    if kind in _TOOLS or any(value.get(key) for key in _TOOL_KEYS):
        raise UnusableError("tool_call", kind)
    if kind in _MEDIA or any(value.get(key) for key in _MEDIA_KEYS):
        raise UnusableError("needs_image", kind)
    for key in _TEXT_KEYS:
        if key in value and (set(value) <= _PART_KEYS or kind):
            return _parts(value[key], place)
    return None


def _json(value: Any) -> str:
    """A value as JSON, with its numbers as they are written."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_json(str(key))}: {_json(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_json, value)) + "]"
    if isinstance(value, Number):
        return value
    text = json.dumps(value, ensure_ascii=False, default=str)
    return clean(text)
