"""Conversations as spans of text, learned or not.

    <|user|>What is DNS?<|end|><|assistant|>DNS turns names into addresses.<|end|>
    ........................................ learned: the reply and its end token

A plain text has no role token and is learned completely:

    DNS is a directory of names.<|end|>

The end token is never the padding token: if both were one, the label of the end would be masked together with the
padding, and the model would never learn to stop.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from theta.conversation.messages import Message

SYSTEM, USER, ASSISTANT = "<|system|>", "<|user|>", "<|assistant|>"
END = "<|end|>"
PAD = "<|pad|>"
SPECIAL_TOKENS = (SYSTEM, USER, ASSISTANT, END, PAD)
"""Theta's special tokens in the order of their ids, which follow those of the base vocabulary."""

ROLE_TOKENS = {"system": SYSTEM, "user": USER, "assistant": ASSISTANT}


def _chat_template(reply: str) -> str:
    """Return the same rendering in Jinja, with `reply` for the text of the assistant's messages."""
    return (
        "{%- for message in messages -%}\n"
        "{%- if message['role'] not in ['system', 'user', 'assistant'] -%}\n"
        "{{- raise_exception('Role ' + message['role'] + ', expected system, user or assistant.') -}}\n"
        "{%- endif -%}\n"
        "{{- '<|' + message['role'] + '|>' -}}\n" + reply + "{%- endfor -%}\n"
        "{%- if add_generation_prompt -%}\n"
        "{{- '<|assistant|>' -}}\n"
        "{%- endif -%}\n"
    )


_TEXT = "{{- message['content'] + '<|end|>' -}}\n"

CHAT_TEMPLATE = _chat_template(_TEXT)
"""The rendering for other readers of the exported folder, in plain Jinja. The line ends are not part of the result."""

TRAINING_CHAT_TEMPLATE = _chat_template(
    "{%- if message['role'] == 'assistant' -%}\n"
    "{%- generation -%}\n" + _TEXT + "{%- endgeneration -%}\n"
    "{%- else -%}\n" + _TEXT + "{%- endif -%}\n"
)
"""The same for trainers that ask the template what is learned. Only transformers knows its `generation` tag."""


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a rendered conversation."""

    text: str
    learned: bool
    """Whether the model is trained to produce it."""
    special: bool = False
    """Whether `text` is one special token; otherwise it is plain text, even if it spells a special token."""


def render(messages: Iterable[Message]) -> Iterator[Span]:
    """Yield the spans of complete messages."""
    for message in messages:
        learned = message.role in ("assistant", "text") and message.learned
        if message.role != "text":
            yield Span(ROLE_TOKENS[message.role], learned=False, special=True)
        yield Span(message.content, learned=learned)
        yield Span(END, learned=learned, special=True)


def render_prompt(messages: Iterable[Message]) -> Iterator[Span]:
    """Yield the spans of complete messages, then the token that asks the model to reply."""
    yield from render(messages)
    yield Span(ASSISTANT, learned=False, special=True)
