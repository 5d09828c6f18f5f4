"""What should probably not be learned: unfilled templates, filler text and personal data.

They are counted and shown by example, never dropped: "{{name}}" is right in a conversation about templates. Personal
data is replaced where `data.redact` asks for it.
"""

import re
from collections.abc import Callable, Collection
from dataclasses import replace

from theta.conversation.messages import Conversation
from theta.corpus.items import Notes

EXAMPLE_CHARACTERS = 60

# Each pattern is tried only if the text holds the mark beside it: a single character is found at memory speed, longer
# ones at a tenth of it, and most texts hold none.
_TEMPLATES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("{", re.compile(r"\{\{[^{}\n]{1,80}\}\}")),
    ("{", re.compile(r"\{%[^{}\n]{1,80}%\}")),
    ("[", re.compile(r"\[[A-Z][A-Z0-9'’/&_-]*(?:[ _][A-Z0-9'’/&_-]+)+\]")),  # [SIMPLE EXPLANATION]
    ("[", re.compile(r"\[(?:[Ii]nsert|[Yy]our|INSERT|YOUR)\b[^\]\n]{0,60}\]")),
    ("<", re.compile(r"<(?:[Ii]nsert|[Yy]our|INSERT|YOUR)\b[^<>\n]{0,60}>")),
    ("orem ipsum", re.compile(r"[Ll]orem ipsum[^\n]{0,40}")),
)

_EMAIL = re.compile(r"[A-Za-z0-9][\w.+-]{0,63}@(?:[\w-]{1,63}\.)+[A-Za-z]{2,24}\b")
_PHONE = re.compile(
    r"(?:\+[0-9]{1,3}[ .-]?(?:\([0-9]{1,4}\)[ .-]?)?|\([0-9]{2,4}\) ?)"
    r"[0-9]{2,4}(?:[ .-]?[0-9]{2,4}){1,4}(?![\w.-]?[0-9])"
)
_CARD = re.compile(r"[0-9](?<![0-9.-].)(?:[ -]?[0-9]){12,18}(?![0-9-]|\.[0-9])")
_KEY = re.compile(
    r"\b(?:sk-[A-Za-z0-9_-]{20,}|AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36,}|github_pat_\w{22,}|glpat-[\w-]{20,}"
    r"|xox[abposr]-[A-Za-z0-9-]{10,}|AIza[\w-]{35}|hf_[A-Za-z0-9]{30,}|eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,})"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----(?:[^-]*-----END [A-Z ]*PRIVATE KEY-----)?"
)  # fmt: skip


def _is_card(number: str) -> bool:
    """Whether the digits pass the check of ISO/IEC 7812 (Luhn), which nine of ten other numbers fail."""
    digits = [int(digit) for digit in number if digit.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return len(set(digits)) > 1 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _is_address(address: str) -> bool:
    """Whether it may be a person's: not one of the domains that are set aside for examples, nor a Git server's."""
    name, _, domain = address.lower().partition("@")
    return name != "git" and not re.search(r"(?:^|\.)example(?:\.(?:com|net|org))?$", domain)


def _always(_: str) -> bool:
    return True


_PERSONAL: dict[str, tuple[re.Pattern[str], Callable[[str], bool], str]] = {
    "keys": (_KEY, _always, "[key]"),
    "emails": (_EMAIL, _is_address, "[email]"),
    "cards": (_CARD, _is_card, "[card number]"),
    "phones": (_PHONE, _always, "[phone number]"),
}
_KEY_MARKS = (
    ("-", ("sk-", "glpat-", "-----BEGIN")),
    ("_", ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "hf_")),
    ("A", ("AKIA", "AIza")),
    ("J", ("eyJ",)),
    ("x", ("xox",)),
)
"""How keys begin, by a character that is quick to find."""
_PHONE_DIGITS, _CARD_DIGITS = 7, 13
"""Digits of the shortest phone number and of the shortest card number; most texts have fewer."""


def look(conversation: Conversation, notes: Notes) -> None:
    """Note what a conversation holds of templates and personal data, each kind once."""
    text = "\n".join(text for message in conversation.messages for text in (message.content, *message.wordings))
    for mark, pattern in _TEMPLATES:
        if mark in text and (found := pattern.search(text)):
            notes.add("template", _shown(found[0]), conversation.source)
            break
    for kind in _kinds_in(text):
        pattern, is_one, _ = _PERSONAL[kind]
        if any(is_one(found[0]) for found in pattern.finditer(text)):
            notes.add("personal", kind, conversation.source)


def redact(conversation: Conversation, kinds: Collection[str], notes: Notes) -> Conversation:
    """Return the conversation with personal data of these kinds replaced by placeholders."""

    def without(text: str) -> str:
        return _redacted(text, kinds, conversation.source, notes)

    messages = tuple(
        replace(message, content=without(message.content), wordings=tuple(map(without, message.wordings)))
        for message in conversation.messages
    )
    return conversation if messages == conversation.messages else replace(conversation, messages=messages)


def _redacted(text: str, kinds: Collection[str], source: str, notes: Notes) -> str:
    for kind in _kinds_in(text):
        if kind in kinds:
            pattern, is_one, placeholder = _PERSONAL[kind]
            count = 0

            def put(found: re.Match[str], is_one: Callable[[str], bool] = is_one, new: str = placeholder) -> str:
                nonlocal count
                if not is_one(found[0]):
                    return found[0]
                count += 1
                return new

            text = pattern.sub(put, text)
            if count:
                notes.add("redacted", kind, source, count)
    return text


def _kinds_in(text: str) -> list[str]:
    """The kinds of personal data that a text may hold, by marks that are quick to find."""
    kinds = []
    if [mark for sign, marks in _KEY_MARKS if sign in text for mark in marks if mark in text]:
        kinds.append("keys")
    if "@" in text:
        kinds.append("emails")
    content = text.encode("utf-8", "surrogatepass")
    digits = len(content) - len(content.translate(None, b"0123456789"))
    if digits >= _CARD_DIGITS:
        kinds.append("cards")
    if digits >= _PHONE_DIGITS and ("+" in text or "(" in text):
        kinds.append("phones")
    return kinds


def _shown(found: str) -> str:
    words = " ".join(found.split())
    return words if len(words) <= EXAMPLE_CHARACTERS else words[: EXAMPLE_CHARACTERS - 1] + "…"
