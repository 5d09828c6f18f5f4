"""Small talk and short facts from a corpus for chatbots -> conversations."""

import re
from collections.abc import Iterator
from typing import Any

from ruamel.yaml import YAML

from recipes.starter.wording import Exchange, is_answer, raised

LEFT_OUT = frozenset(("politics", "gossip", "botprofile"))
"""Files with opinions of other people or the biography of another bot."""
_ALTERNATIVES = frozenset(
    ("emotion", "computers", "ai", "greetings", "food", "health", "sports", "money", "psychology")
)
"""Files in which further lines are other answers to the same question, not further turns."""


def conversations(name: str, content: bytes) -> Iterator[list[Exchange]]:
    """Yield the conversations of one file; their answers may be short."""
    for lines in YAML(typ="safe", pure=True).load(content)["conversations"]:
        spoken = [_sentence(line) for line in lines]
        if len(spoken) < 2 or not all(spoken):
            continue
        if name in _ALTERNATIVES or len(spoken) == 3:
            yield from ([Exchange(spoken[0], reply)] for reply in spoken[1:] if _is_reply(reply))
        else:
            turns = [Exchange(*spoken[place : place + 2]) for place in range(0, len(spoken) - 1, 2)]
            if all(_is_reply(turn.answer) for turn in turns):
                yield turns


def _sentence(line: Any) -> str:
    text = str(line).strip()
    text = text if "\n" in text else re.sub(r"\s+", " ", text)
    text = raised(re.sub(r"\bi\b(?!\.)", "I", text))
    return text if text.endswith((".", "!", "?", "`", '"')) else f"{text}{'?' if _asks(text) else '.'}"


def _asks(text: str) -> bool:
    if re.match(r"do(?:n't| not)\b", text, re.I):
        return False
    return (
        re.match(r"(?:who|what|which|when|where|why|how|are|is|do|does|can|could|would|did|will)\b", text, re.I)
        is not None
    )


def _is_reply(text: str) -> bool:
    return is_answer(text) or 1 < len(text.split()) <= 120
