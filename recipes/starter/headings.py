"""Pages of documentation -> questions and answers; headings, terms and names become questions."""

import re
from collections.abc import Iterator, Sequence

from recipes.starter.blocks import Block
from recipes.starter.prose import is_prose
from recipes.starter.wording import Exchange, answer, base_verb, lowered, pick, sentence

_NUMBER = re.compile(
    r"^(?:(?:Chapter|Section|Appendix|Part|Item|Q)\s+[\dA-Z]+[.:]?|\(?\d+(?:\.\d+)*[.):]?|[A-Z]\.\d+(?:\.\d+)*\.?)\s+"
)
_QUESTION = re.compile(r"(?:How|What|Why|Which|When|Where|Who|Is|Are|Can|Could|Do|Does|Should|Will|Must|Has|Have|I)\b")
_GENERIC = frozenset(
    "introduction overview description notes note see also example examples summary synopsis usage options author "
    "authors conclusion background details contents index general miscellaneous other name returns return value errors "
    "bugs caveats history requirements features motivation todo references parameters arguments about prerequisites "
    "what's new tips warnings warning discussion compatibility limitations support copyright acknowledgments abstract "
    "exports data types configuration implementations installation functions methods properties attributes fields "
    "constants classes exceptions macros structs traits variants environment files standards rationale rules more "
    "and or of preface credits license licence resources syntax semantics output input basics further reading "
    "diagnostics".split()
)
_PROPER = frozenset(
    "Python Perl Django PostgreSQL Postgres Git Debian Linux Rust Erlang Apache Unix Vim SQLite LLVM Clang Windows C "
    "C++ Java JavaScript Cargo LibreOffice Calc Writer Impress Basic Unicode English GNU Tcl Emacs Mac macOS Bash "
    "Oracle MySQL Google GitHub Intel Microsoft X I".split()
)
_ABOUT = (
    "Tell me about {}.",
    "Explain {}.",
    "What should I know about {}?",
    "Can you explain {}?",
    "What can you tell me about {}?",
    "Please explain {}.",
)
_HOW = ("How do I {}?", "How can I {}?", "How do you {}?", "How does one {}?", "What is the way to {}?")
_CALLED = ("What does `{}()` do in {}?", "What is `{}()` for in {}?")
_NAME = re.compile(r"^([\w.+:-]+)(?:, [\w., +:-]+)? - (.+)$")
_PURPOSE = (
    "What does `{}` do?",
    "What is the `{}` command for?",
    "What is `{}` used for?",
    "Explain the `{}` command.",
)
_FUNCTION = ("What does the function `{}` do?", "What is `{}` for?", "What does `{}` do in C?")
_TERM = re.compile(r"^(?:(?:class|method|async|classmethod|static|staticmethod|abstractmethod|function|property)\s+)*"
                   r"`?([\w.]{3,60})`?( ?)\(")  # fmt: skip
_SENTENCE = re.compile(
    r"\b(?:is|are|has|have|was|were|you|your|my|we|our|this|these|should|must|can|will|isn't|don't)\b", re.I
)
MIN_WORDS = 15
"""Minimum length of an answer to a heading: a shorter one only introduces something else."""
_FN = re.compile(r"\bfn (\w+)")
_TYPE = re.compile(
    r"^(?:Struct|Enum|Trait|Union|Primitive Type|Macro|Function|Module|Keyword|Type Definition) (?:\w+::)*(\w+)"
)
_DASH = re.compile(r"^`?([\w.]{2,40})`? - (.+)$")


def exchanges(page: Sequence[Block], subject: str, verbs: frozenset[str]) -> Iterator[tuple[str, Exchange]]:
    """Yield questions about a page, each with its kind: faq, documentation or commands.

    Args:
        page: the blocks of one page.
        subject: the subject of the package, such as "Python"; it is added to questions that would be vague without it.
        verbs: base forms of English verbs.
    """
    title = page[0].text if page and page[0].kind == "heading" else ""
    for place, block in enumerate(page):
        if block.kind not in ("heading", "term"):
            continue
        following = _following(page, place)
        if block.kind == "heading" and block.text.rstrip(".").upper() == "NAME":
            yield from _command(page, place, subject, verbs)
            continue
        kind, question = _question(block, title, subject, verbs)
        text = answer(following) if question else ""
        if len(text.split()) >= MIN_WORDS:
            yield kind, Exchange(question, text)


def _following(page: Sequence[Block], place: int) -> list[str]:
    """The paragraphs right after a heading or a term, up to the first gap or other block that is not prose."""
    found: list[str] = []
    for block in page[place + 1 : place + 4]:
        if block.kind != "paragraph" or not is_prose(block.text) or block.text.endswith(":"):
            break
        found.append(block.text)
    return found


def _question(block: Block, title: str, subject: str, verbs: frozenset[str]) -> tuple[str, str]:
    """The kind and the question for a heading or a term; the question is empty if there is no good one."""
    text = _NUMBER.sub("", block.text).strip().rstrip(".:")
    function = _FN.search(text)
    if function:
        owner = _TYPE.search(title)
        return "documentation", f"What does `{owner[1]}::{function[1]}` do in {subject}?" if owner else ""
    if block.kind == "term":
        return "documentation", _term(text, subject, glossary="glossary" in title.lower())
    if text.endswith("?"):
        return "faq", _complete_question(text)
    return "documentation", _heading(text, subject, verbs)


def _complete_question(text: str) -> str:
    known = _QUESTION.match(text) and len(text.split()) > 2
    return text if known or len(text.split()) > 5 else ""


def _heading(text: str, subject: str, verbs: frozenset[str]) -> str:
    """The question for a heading that is not a question itself; empty if there is no good one."""
    text = text.lower().capitalize() if text.isupper() and len(text) > 8 else text
    about = f" in {subject}" if subject.lower() not in text.lower() else ""
    described = _DASH.match(text)
    if described:
        return pick(("What is `{}` in {}?", "What is `{}` for in {}?"), text).format(described[1], subject)
    if not _is_topic(text):
        return ""
    words = text.split()
    how = re.match(r"(?:How ?to|To) (.+)", text, re.I)
    action = how[1].split() if how else [base_verb(words[0], verbs) or "", *words[1:]]
    if action[0]:
        return pick(_HOW, text).format(_plain(action) + about)
    # "Commit your changes" needs no explanation, but "Use cases" looks the same, so both are left out.
    is_imperative = words[0].lower() in verbs and words[0].lower().endswith(("e", "d", "t", "n")) and len(words) > 2
    return "" if is_imperative else pick(_ABOUT, text).format(_plain(words) + about)


def _is_topic(text: str) -> bool:
    """Whether a heading names a topic, rather than a part of the page, a piece of code or a sentence."""
    words = text.split()
    return (
        1 < len(words) <= 9
        and text[0].isupper()
        and words[0] not in ("Introduction", "Appendix", "More", "For", "In", "On", "From", "With", "If", "When")
        and not set(text.lower().split()) <= _GENERIC
        and not re.search(r"[`()/=<>\[\]:;,!]|::|\d\.\d|--|\bvs\b", text)
        and not _SENTENCE.search(text)
        and not (_QUESTION.match(text) and not text.lower().startswith("how to "))
    )


def _term(text: str, subject: str, *, glossary: bool) -> str:
    """The question about an entry of a list: a function, a setting with its type, or a word of a glossary."""
    function = _TERM.match(text)
    if function and not function[1].isupper():
        forms = ("What is `{}` in {}?", "What is `{}` for in {}?") if function[2] else _CALLED
        return pick(forms, function[1]).format(function[1], subject)
    if glossary and re.fullmatch(r"[a-z][a-z -]{3,30}", text) and text not in _GENERIC:
        return pick(("What is {} in {}?", "What does {} mean in {}?", "Define {} in {}."), text).format(
            f'"{text}"', subject
        )
    return ""


def _plain(words: Sequence[str]) -> str:
    """Words of a heading as inside a sentence: only names keep their capitals."""
    return " ".join(word if word in _PROPER or not word[1:].islower() else word.lower() for word in words)


def _command(page: Sequence[Block], place: int, subject: str, verbs: frozenset[str]) -> Iterator[tuple[str, Exchange]]:
    """Yield the question about the program or function that a manual page names."""
    named = _NAME.match(page[place + 1].text) if place + 1 < len(page) else None
    if not named or named[2].split()[0].lower().strip(",") not in verbs:
        return
    name, purpose = named[1], named[2]
    if subject == "Git":
        name = name.replace("git-", "git ", 1)
    is_function = subject == "C"
    name = f"{name}()" if is_function else name
    begins = next((at for at, block in enumerate(page) if block.text.upper() == "DESCRIPTION"), None)
    described = _following(page, begins) if begins is not None else []
    if described and described[0].lower().split()[:2] == purpose.lower().split()[:2]:
        described = []  # it repeats the purpose
    first = sentence(f"`{name}` is used to {lowered(purpose)}")
    text = answer([first, *described[:1]]) or answer([f"{first} {described[0]}"] if described else [])
    if text:
        yield "commands", Exchange(pick(_FUNCTION if is_function else _PURPOSE, name).format(name), text)
