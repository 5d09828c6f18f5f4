"""Vim's help files -> blocks: headings below a rule, and paragraphs that start in the first column."""

import re

from recipes.starter.blocks import Block, tidy

_TAG = re.compile(r"\*[^*\s]+\*")
_LINK = re.compile(r"\|([^|\s]+)\|")


def blocks(content: bytes) -> list[Block]:
    """Return the blocks of a help file; indented text (code, columns of commands) is left out."""
    found: list[Block] = []
    for chunk in re.split(r"\n\s*\n", content.decode("utf-8", "replace")):
        lines = chunk.splitlines()
        if lines and re.match(r"[=-]{20,}", lines[0]):
            heading = tidy(_TAG.sub("", lines[1])) if len(lines) > 1 else ""
            found.append(Block("heading", re.sub(r"^[\d.]+ *", "", heading)))
            lines = lines[2:]
            if not lines:
                continue
        paragraph = [_LINK.sub(r"\1", _TAG.sub("", line.removeprefix("<"))) for line in lines]
        if paragraph and all(line[:1].strip() and "\t" not in line for line in paragraph):
            found.append(Block("paragraph", tidy(" ".join(line.removesuffix(" >") for line in paragraph))))
        else:
            found.append(Block("gap", ""))
    return found
