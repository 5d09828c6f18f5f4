"""Perl's POD -> blocks. Indented code is left out."""

import re

from recipes.starter.blocks import Block, Kind, tidy

_COMMANDS: dict[str, Kind] = {"head1": "heading", "head2": "heading", "head3": "heading", "head4": "heading"}
_ENTITIES = {"lt": "<", "gt": ">", "verbar": "|", "sol": "/", "amp": "&"}
# Innermost first, so that C<...> contains no other code once those inside it are replaced.
_WIDE = re.compile(r"([A-Z])<<+ (.*?) >>+", re.DOTALL)
_NARROW = re.compile(r"([A-Z])<([^<>]*)>")
_OPEN, _CLOSE = "\x01", "\x02"


def blocks(content: bytes) -> list[Block]:
    """Return the blocks of a POD file."""
    found: list[Block] = []
    skipping = False
    for chunk in re.split(r"\n[ \t]*\n+", content.decode("utf-8", "replace")):
        command = re.match(r"=(\w+)\s*(.*)", chunk, re.DOTALL)
        if command:
            skipping = command[1] in ("begin", "for") or (skipping and command[1] != "end")
            if command[1] in _COMMANDS:
                found.append(Block(_COMMANDS[command[1]], plain(command[2])))
            elif command[1] == "item":
                found.append(Block("term", plain(command[2])))
        elif chunk[:1] in (" ", "\t"):
            found.append(Block("gap", ""))
        elif not skipping and chunk.strip():
            found.append(Block("paragraph", plain(chunk)))
    return found


def plain(text: str) -> str:
    """Return text without formatting codes, with code in backticks."""
    text = _WIDE.sub(lambda code: _inner(code[1], code[2].replace("<", _OPEN).replace(">", _CLOSE)), text)
    while True:
        text, count = _NARROW.subn(lambda code: _inner(code[1], code[2]), text)
        if not count:
            return tidy(text.replace(_OPEN, "<").replace(_CLOSE, ">"))


def _inner(code: str, text: str) -> str:
    if code in "XZ":
        return ""
    if code == "E":
        return _ENTITIES.get(text, "").replace("<", _OPEN).replace(">", _CLOSE)
    if code == "L":
        label, bar, target = text.partition("|")
        return label if bar else target or label.strip("/").replace("/", " ").replace('"', "")
    return f"`{text}`" if code == "C" and "`" not in text else text
