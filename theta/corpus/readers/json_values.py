"""JSON text -> values, with numbers as they are written, and every fault as a value with its reason and place."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from theta.corpus.items import Number

SEPARATORS = " \t\r\n,\ufeff\x1e\x00"
"""What may stand before and after a value: also a byte order mark or a record separator (RFC 7464)."""
_SEPARATORS = SEPARATORS.encode()
DEPTH_LIMIT = 100
"""Values that are nested deeper are refused: programs that read them after us may not be able to."""

NOT_JSON = "not_json: "
"""How the reason of a fault begins that has a place in the text."""

_LONE_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_KNOWN_KEYS_AT_MOST = 1000
_known_keys: set[tuple[str, ...]] = set()
"""Keys of objects that were found to be distinct."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Text that is no value."""

    text: str
    why: str
    """A short name of the reason, then the details."""
    begin: int = 0
    """Where in the text the value begins."""
    offset: int = 0
    """Where in the text the fault is."""


def values(text: str) -> Iterator[Any]:
    """Yield the values of a text that stand one after another, and a `Fault` for what is none, which ends the text.

    An object in which a key stands twice, also with other case or white space around it, is a `Fault` if it is a whole
    value, and a tuple of its pairs inside of one: no other value contains tuples.
    """
    at = _skipped(text, 0)
    while at < len(text):
        try:
            value, end = _decoded(text, at)
        except ValueError as fault:
            yield Fault(text[at:], f"{NOT_JSON}{getattr(fault, 'msg', fault)}", at, getattr(fault, "pos", at))
            return
        except RecursionError:
            yield Fault(text[at:], "nested_too_deeply")
            return
        except MemoryError:
            yield Fault(text[at : at + 1000], "too_large: more than the memory of this machine")
            return
        yield _checked(value, text, at, end)
        at = _skipped(text, end)


def only(content: bytes) -> Any:
    """Return the object that a text consists of; None if there is something else, or anything wrong with it."""
    try:
        text = content.strip(_SEPARATORS).decode()
        value, end = _DECODER.raw_decode(text)
    except (ValueError, RecursionError, MemoryError):
        return None
    return _checked(value, text, 0, end) if end == len(text) and type(value) is dict else None


def _decoded(text: str, at: int) -> tuple[Any, int]:
    try:
        return _DECODER.raw_decode(text, at)
    except json.JSONDecodeError as fault:
        # Line ends and tabs in a text are a frequent mistake that does not make it ambiguous.
        if not fault.msg.startswith("Invalid control character"):
            raise
        return _LENIENT.raw_decode(text, at)


def _checked(value: Any, text: str, at: int, end: int) -> Any:
    if isinstance(value, tuple):
        return Fault(text[at:end], f"key_twice: {_twice(value)}")
    if _is_deep(value, text, at, end):
        return Fault(text[at:end], "nested_too_deeply")
    if text.find("\\", at, end) >= 0 and text.find("\\u", at, end) >= 0 and _LONE_SURROGATE.search(text, at, end):
        return _without_surrogates(value)
    return value


def _skipped(text: str, at: int) -> int:
    while at < len(text) and text[at] in SEPARATORS:
        at += 1
    return at


def _object(pairs: list[tuple[str, Any]]) -> Any:
    value = dict(pairs)
    keys = tuple(value)
    if keys in _known_keys and len(keys) == len(pairs):
        return value
    if len({key.strip().lower() for key in keys}) != len(pairs):
        return tuple(pairs)
    if len(_known_keys) < _KNOWN_KEYS_AT_MOST and len(keys) < DEPTH_LIMIT:
        _known_keys.add(keys)
    return value


def _twice(pairs: tuple[tuple[str, Any], ...]) -> str:
    seen: set[str] = set()
    for key, _ in pairs:
        if (plain := key.strip().lower()) in seen:
            return plain
        seen.add(plain)
    return ""


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_int=Number,
    parse_float=Number,
    # Several tools write NaN for a missing value, although JSON does not have it; it is read as null.
    parse_constant=lambda _: None,
)
_LENIENT = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=Number, parse_float=Number, parse_constant=lambda _: None, strict=False
)


def _is_deep(value: Any, text: str, at: int, end: int) -> bool:
    if text.count("{", at, end) + text.count("[", at, end) <= DEPTH_LIMIT:
        return False
    level = [value]
    for _ in range(DEPTH_LIMIT):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list | tuple)
        ]
        if not level:
            return False
    return True


def _without_surrogates(value: Any) -> Any:
    """Replace halves of surrogate pairs, which UTF-8 cannot encode, by the replacement character."""
    if isinstance(value, str):
        if value.isascii():
            return value
        return type(value)(value.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_without_surrogates(inner) for inner in value)
    return value
