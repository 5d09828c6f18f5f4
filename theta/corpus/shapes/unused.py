"""Keys that hold text which no conversation took: named once each, because a misspelt key would lose what it holds."""

import difflib
import re
from collections.abc import Mapping, Set
from functools import lru_cache
from typing import Any

from theta.corpus.shapes.fields import (
    CONTEXTS,
    DOMAINS,
    INSTRUCTIONS,
    METADATA,
    NO_INPUT,
    QUESTIONS,
    REJECTED,
    REPLIES,
    SYSTEMS,
    WORDINGS,
    canonical,
)
from theta.corpus.shapes.messages import is_message
from theta.corpus.shapes.turns import Place

_WORDS = 2
_SENTENCE = 3
"""Lists of shorter texts are mostly tags."""
_MOST_ENTRIES = 1000
_KEY_CHARACTERS = 60
_NO_CONTENT = re.compile(r"\s*(?:https?://\S+|[\d\s:./TZ+-]+|[0-9a-fA-F-]{16,}|\S+\.\w{2,5})\s*")
_KNOWN = sorted({*INSTRUCTIONS, *QUESTIONS, *REPLIES, *CONTEXTS, *SYSTEMS} - {"q", "a", "ask"})


def note_unused(value: Mapping[str, Any], used: Set[str], said: str, place: Place) -> None:
    """Note the keys whose text is neither used nor part of what is said."""
    for key, held in value.items():
        entry = held if isinstance(held, str) else _texts(held)
        if not entry:
            continue
        name = canonical(key)
        renamed = place.rules.fields.get(key)
        if (
            name in used
            or name in METADATA
            or name in REJECTED
            or name in DOMAINS
            or name in WORDINGS
            or (renamed and canonical(renamed) in used)
        ):
            continue
        if _is_content(name, entry) and entry.strip() not in said and not (said and said in entry):
            place.note("unused_key", key if len(key) <= _KEY_CHARACTERS else f"{key[:_KEY_CHARACTERS]}…")


def _texts(held: Any) -> str:
    """The texts of a list of texts or of messages, which may be what was said before; empty for anything else."""
    if not isinstance(held, list) or len(held) > _MOST_ENTRIES:
        return ""
    if all(isinstance(entry, str) for entry in held):
        return "\n".join(held) if any(len(entry.split(maxsplit=_SENTENCE)) > _SENTENCE for entry in held) else ""
    return "messages of a chat" if is_message(held[0]) else ""


def _is_content(name: str, text: str) -> bool:
    if _NO_CONTENT.fullmatch(text) or text.strip().lower() in NO_INPUT:
        return False
    return len(text.split(maxsplit=_WORDS)) >= _WORDS or _is_misspelt(name)


@lru_cache(maxsize=1024)
def _is_misspelt(name: str) -> bool:
    return not name.endswith("id") and bool(difflib.get_close_matches(name, _KNOWN, n=1, cutoff=0.8))
