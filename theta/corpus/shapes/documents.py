"""A text file that holds many conversations -> their turns: questions with answers, dialogues a line, texts with marks.

    ## Is it far?        Q: Is it far?        Is it far?<tab>A mile.        Is it far? __eou__ A mile. __eou__
    A mile.              A: A mile.

Each question with its answer is a conversation of its own, as in a table; a chat with names in front is a transcript.
"""

import re
from collections.abc import Iterator, Sequence
from textwrap import dedent

from theta.corpus.shapes import languages, messages
from theta.corpus.shapes.content import text_of
from theta.corpus.shapes.fields import QUESTIONS, REPLIES, UnusableError, canonical
from theta.corpus.shapes.turns import Place, Turn

_FIELD_MARK = " +++$+++ "
_UTTERANCE_END = "__eou__"
_DOCUMENT_MARKS = re.compile(r"<\|(?:startoftext|endoftext)\|>")
_NUMBERED_LINE = re.compile(r"(\d+) (.+)")
_PERSONA = re.compile(r"(?:your|partner's) persona: ")
_INTRODUCTION_CHARACTERS = 300
"""What stands before the first question may be a title and a sentence about the page. More than that is a text."""

_QUESTION = re.compile(
    r"(?m)^(?P<level>#{1,6})?[ \t]*(?P<number>\d{1,3}[.)][ \t]+)?(?P<bold>\*\*|__)?(?:Q(?:uestion)?\d{0,3}[.:)][ \t]*)?"
    r"(?P<text>[^\n]*?\S\?)(?:\*\*|__)?[ \t]*(?:#+[ \t]*)?$"
)
_HEADING = re.compile(r"(?m)^#{1,6}[ \t][^\n]*$")
_BOLD_LINE = re.compile(r"(?m)^(?:\d{1,3}[.)][ \t]+)?(?:\*\*|__)[^\n]+(?:\*\*|__)[ \t]*$")
_RULE = re.compile(r"(?m)^[ \t]*(?:-{3,}|\*{3,}|_{3,}|={3,})[ \t]*$")
_ANSWER_MARK = re.compile(r"\A(?:\*\*)?(?:A|Answer)[ \t]*[:.](?:\*\*)?[ \t]+")


def conversations_of(text: str, place: Place) -> Iterator[list[Turn]] | None:
    """Return the turns of each conversation of a text file; None if it is one text or one transcript.

    Raises:
        UnusableError: it is a table of parts of conversations that only another file puts together.
    """
    text = text.strip("\ufeff \t\n")
    if _FIELD_MARK in text[: text.find("\n")]:
        raise UnusableError("unknown_shape", "fields divided by '+++$+++'; write each dialogue as a list of its lines")
    if (dialogues := _by_line(text, place)) is not None:
        return iter(dialogues)
    if (dialogues := _numbered(text, place)) is not None:
        return iter(dialogues)
    pairs = _by_tab(text) or _without_introduction(text, place) or _under_headings(text, place)
    if pairs is None:
        return None
    return ([Turn("user", text_of(q, place)), Turn("assistant", text_of(a, place))] for q, a in pairs)


def divided(text: str) -> list[str]:
    """Return the documents of a file in which `<|startoftext|>` or `<|endoftext|>` divide them; empty for one."""
    parts = [part for part in _DOCUMENT_MARKS.split(text) if part.strip()]
    return parts if len(parts) > 1 or "<|startoftext|>" in text else []


def _by_line(text: str, place: Place) -> list[list[Turn]] | None:
    """Dialogues, one a line, in which a mark ends each utterance, as DailyDialog writes them."""
    lines = [line.replace("__eot__", "") for line in text.split("\n") if line.strip()]
    if not all(_UTTERANCE_END in line for line in lines):
        return None
    dialogues = []
    for line in lines:
        said = [each for part in line.split(_UTTERANCE_END) if (each := text_of(part, place))]
        roles = messages.alternating_roles(len(said), place)
        dialogues.append([Turn(role, each) for role, each in zip(roles, said, strict=True)])
    return dialogues


def _numbered(text: str, place: Place) -> list[list[Turn]] | None:
    """Dialogues of numbered lines that begin anew with 1: a persona, then exchanges, as PersonaChat writes them."""
    lines = [_NUMBERED_LINE.fullmatch(line) for line in text.split("\n") if line.strip()]
    if not all(lines) or not any(line and "\t" in line[2] for line in lines):
        return None
    dialogues: list[list[Turn]] = []
    for line in filter(None, lines):
        if line[1] == "1":
            dialogues.append([])
        if not dialogues:
            return None
        asked, tab, rest = line[2].partition("\t")
        if tab:
            reply = rest.partition("\t")[0]
            dialogues[-1] += [Turn("user", text_of(asked, place)), Turn("assistant", text_of(reply, place))]
        elif _PERSONA.match(asked):
            previous = dialogues[-1].pop().content + "\n" if dialogues[-1] else ""
            dialogues[-1].append(Turn("system", previous + text_of(asked, place)))
        else:
            return None
    return dialogues


def _by_tab(text: str) -> list[tuple[str, str]] | None:
    """The two cells of each line, also below names of columns, or the settings that Anki writes."""
    lines = [line for line in text.split("\n") if line.strip() and not re.match(r"#\w+( \w+)?:", line)]
    cells = [line.split("\t") for line in lines]
    if len(cells) < 2 or not all(len(each) == 2 and all(map(_has_letters, each)) for each in cells):
        return None
    named = canonical(cells[0][0]) in QUESTIONS and canonical(cells[0][1]) in REPLIES
    return [(question, answer) for question, answer in cells[named:]]


def _has_letters(text: str) -> bool:
    return any(map(str.isalpha, text))


def _without_introduction(text: str, place: Place) -> list[tuple[str, str]] | None:
    """The pairs of a file with the names of questions and answers in front of lines."""
    if pairs := languages.pairs_of(text):
        return pairs
    head, blank, rest = text.partition("\n\n")
    if not blank or len(head) > _INTRODUCTION_CHARACTERS or not (pairs := languages.pairs_of(rest)):
        return None
    place.note("mended", "introduction left out")
    return pairs


def _under_headings(text: str, place: Place) -> list[tuple[str, str]] | None:
    """The pairs of a Markdown file whose headings, bold lines or numbered lines are questions."""
    marks = [mark for mark in _QUESTION.finditer(text) if mark["level"] or mark["number"] or mark["bold"]]
    if not marks:
        return None
    style = _style(marks[0])
    marks = [mark for mark in marks if _style(mark) == style]
    if len(marks) < 2 or not _all_are_questions(text, marks):
        return None
    found = []
    for mark, following in zip(marks, [*marks[1:], None], strict=True):
        said = text[mark.end() : following.start() if following else len(text)]
        above = _section(said, len(mark["level"] or "") or 6)
        if above is not None and _RULE.sub("", _HEADING.sub("", said[above:])).strip():
            return None  # a text under a heading of its own
        answer = _ANSWER_MARK.sub("", dedent(_RULE.sub("", said[:above]).strip("\n")).strip(), count=1)
        if not answer:
            return None
        found.append((mark["text"], answer))
    introduction = _RULE.sub("", _HEADING.sub("", text[: marks[0].start()])).strip()
    if len(introduction) > _INTRODUCTION_CHARACTERS:
        return None
    if introduction:
        place.note("mended", "introduction left out")
    return found


def _style(mark: re.Match[str]) -> tuple[int, bool, bool]:
    return len(mark["level"] or ""), bool(mark["number"]) and not mark["level"], bool(mark["bold"])


def _all_are_questions(text: str, marks: Sequence[re.Match[str]]) -> bool:
    """Whether no other heading of this level, or bold line, is anything but a question."""
    if level := marks[0]["level"]:
        return len(re.findall(rf"(?m)^{level}[ \t]", text)) == len(marks)
    if marks[0]["bold"]:
        return len(_BOLD_LINE.findall(text)) == len(marks)
    return [int(mark["number"].strip(" \t.)")) for mark in marks] == list(range(1, len(marks) + 1))


def _section(said: str, level: int) -> int | None:
    """Where a heading of a higher level, or of the same, ends an answer; None if none does."""
    found = re.search(rf"(?m)^#{{1,{level}}}[ \t]", said)
    return found.start() if found else None
