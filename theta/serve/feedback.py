"""Marked replies, as conversations that the next run can train on: lines of {"messages", "label", "id"}."""

import json
from pathlib import Path
from threading import Lock
from typing import Any

from theta.conversation.messages import Message
from theta.files import replacing_file
from theta.generate.prompt import to_messages

_LOCK = Lock()


def record(file: Path, identity: str, messages: list[dict[str, str]], label: bool | None) -> None:
    """Write a conversation and its label; one with the same identity is replaced, or removed if the label is None.

    Lines of other origin stay as they are.

    Args:
        file: JSON Lines, which `data.path` can name.
        identity: names the reply, so that a mark can be changed.
        messages: user and assistant in turn, ending with the assistant's.
        label: whether the reply is good.

    Raises:
        GenerationError: the messages are no such conversation.
        StorageError: the file cannot be written.
    """
    checked = to_messages(messages[:-1])
    last = to_messages([{**messages[-1], "role": "user"}])[0]
    row = [*checked, Message("assistant", last.content)]
    with _LOCK:
        lines = file.read_text(encoding="utf-8", errors="surrogateescape").splitlines() if file.exists() else []
        lines = [line for line in lines if line.strip() and _identity(line) != identity]
        if label is not None:
            value = {"messages": [{"role": one.role, "content": one.content} for one in row], "label": label}
            lines.append(json.dumps({**value, "id": identity}, ensure_ascii=False))
        with replacing_file(file) as temporary:
            text = "".join(f"{line}\n" for line in lines)
            temporary.write_text(text, encoding="utf-8", errors="surrogateescape", newline="\n")


def _identity(line: str) -> Any:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value.get("id") if isinstance(value, dict) else None
