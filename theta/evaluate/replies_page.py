"""metrics/replies.md: the replies for a human reader.

Each text stands in a fenced block, so that nothing in it (tables, HTML, headings, an unclosed fence) is taken for
Markdown. GitHub does not wrap such blocks: long lines are wrapped here. metrics/replies.jsonl holds the exact texts.
"""

import re
import textwrap
from collections.abc import Sequence

from theta.conversation.messages import Message
from theta.evaluate.replies import Answered

COLUMNS = 110


def page(answers: Sequence[Answered]) -> str:
    """The page, a section for each reply."""
    intro = (
        f"{len(answers)} questions of the test split, drawn evenly over domains: what the conversation says, and what "
        "the model said. Long lines are wrapped; `replies.jsonl` holds the exact texts."
    )
    sections = [_section(number, answered) for number, answered in enumerate(answers, start=1)]
    return "\n\n".join(["# Replies to test questions", intro, *sections]) + "\n"


def _section(number: int, answered: Answered) -> str:
    ended = "ended by itself" if answered.reply.ended else "cut at the limit"
    domain = re.sub(r"([^\w\s])", r"\\\1", " ".join(answered.conversation.domain.split()))
    return "\n\n".join([
        f"## {number}. {domain}",
        f"chrF {answered.chrf:.1f}, {answered.reply.tokens} tokens, {ended}",
        f"Question\n\n{fenced(_question(answered.conversation.messages[:-1]))}",
        f"Reference\n\n{fenced(answered.reference)}",
        f"Reply\n\n{fenced(answered.reply.text)}",
    ])  # fmt: skip


def _question(messages: Sequence[Message]) -> str:
    """One question as it is; a longer prompt with the role before each message."""
    if len(messages) == 1:
        return messages[0].content
    return "\n".join(f"{message.role}: {message.content}" for message in messages)


def fenced(text: str) -> str:
    """`text` in a fence longer than any that it holds, its long lines wrapped."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    lines = [wrapped for line in text.splitlines() for wrapped in _wrapped(line)]
    return "\n".join([f"{fence}text", *lines, fence])


def _wrapped(line: str) -> list[str]:
    # Short lines stay as they are; `wrap` would take the indentation of code for what it is, but drop a blank line.
    if len(line) <= COLUMNS:
        return [line]
    return textwrap.wrap(line, COLUMNS, replace_whitespace=False, break_long_words=False, break_on_hyphens=False)
