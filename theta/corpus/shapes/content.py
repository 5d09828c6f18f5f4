"""The text of a value: text, numbers, parts of a message, and what of them cannot be learned."""

import json
import math
from collections.abc import Mapping
from typing import Any

from theta.corpus.items import Number
from theta.corpus.shapes.cleaning import clean
from theta.corpus.shapes.fields import WORDINGS, UnusableError
from theta.corpus.shapes.turns import Place

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
    "contentType", "msgtype", "format", "formatted_body", "refusal",
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


def wordings_of(fields: Mapping[str, Any], place: Place) -> tuple[str, ...]:
    """Return the other ways to ask that an object names: a list of texts, or a text of several lines."""
    found: list[str] = []
    for name in WORDINGS:
        value = fields.get(name)
        texts = value.split("\n") if isinstance(value, str) else value if isinstance(value, list) else []
        found += [text_of(text, place) for text in texts if isinstance(text, str)]
    return tuple(dict.fromkeys(filter(None, found)))


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
