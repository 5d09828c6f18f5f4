"""Items of files -> what became of them, for tests of shapes."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from theta.conversation.messages import Conversation
from theta.corpus.items import Notes, Reject, Rules
from theta.corpus.readers.finding import find
from theta.corpus.readers.reading import read
from theta.corpus.shapes.shape import is_message, shape


class Read(NamedTuple):
    kept: list[Conversation]
    rejects: list[Reject]
    notes: Notes

    def noted(self, kind: str) -> dict[str, int]:
        return {name: count for name, count, _ in self.notes.of(kind)}


def read_all(folder: Path, rules: Rules | None = None) -> Read:
    made = Read([], [], Notes())
    for file in find(folder).files:
        for item in (item for block in read(file, is_message) for item in block.items()):
            if item.broken:
                made.rejects.append(Reject(item.source, item.broken.partition(":")[0], "", item.value))
                continue
            results = list(shape(item, rules or Rules(), made.notes))
            assert results, item
            made.kept.extend(each for each in results if isinstance(each, Conversation))
            made.rejects.extend(each for each in results if isinstance(each, Reject))
    return made


def read_text(folder: Path, text: str, name: str = "a.json", rules: Rules | None = None) -> Read:
    (folder / name).write_bytes(text.encode())
    return read_all(folder, rules)


def read_value(folder: Path, value: Any, rules: Rules | None = None) -> Read:
    return read_text(folder, json.dumps(value), rules=rules)


def said(read: Read) -> list[list[Any]]:
    """Contents by conversation; a system message begins with "S: ", a text with "T: ", and wordings are a list."""
    marks = {"system": "S: ", "text": "T: "}
    return [
        [
            [message.content, *message.wordings] if message.wordings else marks.get(message.role, "") + message.content
            for message in each.messages
        ]
        for each in read.kept
    ]


def u(content: Any, **marks: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **marks}


def a(content: Any, **marks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **marks}


def h(value: Any, **marks: Any) -> dict[str, Any]:
    return {"from": "human", "value": value, **marks}


def g(value: Any, **marks: Any) -> dict[str, Any]:
    return {"from": "gpt", "value": value, **marks}


S = {"role": "system", "content": "Be kind."}
Q, A, Q2, A2 = "Is it far?", "A mile.", "Uphill?", "Yes, all the way."
ONE, TWO = [Q, A], [Q, A, Q2, A2]
