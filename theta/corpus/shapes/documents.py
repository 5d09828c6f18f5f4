"""A text file that holds many conversations -> their turns: questions with answers, dialogues a line, texts with marks.

    Q: Is it far?        Is it far? __eou__ A mile. __eou__        1 your persona: i walk.
    A: A mile.                                                     2 Is it far?<tab>A mile.

Each question with its answer is a conversation of its own, as in a table; a chat with names in front is a transcript.
Headings, numbered lines and cells that are questions divide nothing: prose has them too.
"""

import re
from collections.abc import Iterator

from theta.corpus.shapes import languages, messages
from theta.corpus.shapes.content import text_of
from theta.corpus.shapes.fields import UnusableError
from theta.corpus.shapes.turns import Place, Turn

_FIELD_MARK = " +++$+++ "
_UTTERANCE_END = "__eou__"
_FIRST_MARK = "<|startoftext|>"
_DOCUMENT_MARKS = re.compile(r"<\|(?:startoftext|endoftext)\|>")
_END_ALONE = re.compile(r"(?m)^[ \t]{0,8}<\|endoftext\|>[ \t]{0,8}$")
_NUMBERED_LINE = re.compile(r"(\d+) (.+)")
_PERSONA = re.compile(r"(?:your|partner's) persona: ")


def conversations_of(text: str, place: Place) -> Iterator[list[Turn]] | None:
    """Return the turns of each conversation of a text file; None if it is one text or one transcript.

    Raises:
        UnusableError: it is a table of parts of conversations that only another file puts together.
    """
    text = text.strip("\ufeff \t\n")
    if _FIELD_MARK in text[: text.find("\n")]:
        raise UnusableError("unknown_shape", "fields divided by '+++$+++'; write each dialogue as a list of its lines")
    if (dialogues := _by_line(text, place) or _numbered(text, place)) is not None:
        return iter(dialogues)
    pairs = languages.pairs_of(text)
    if pairs is None or len(pairs) < 2:
        return None
    return ([Turn("user", text_of(q, place)), Turn("assistant", text_of(a, place))] for q, a in pairs)


def begins_marked(text: str) -> bool:
    """Whether a file begins with the mark that begins each of its documents."""
    return text.lstrip("\ufeff \t\n").startswith(_FIRST_MARK)


def divided(text: str) -> list[str]:
    """Return the documents of a file in which `<|startoftext|>`, or lines of `<|endoftext|>`, divide them; or none."""
    marked = begins_marked(text)
    parts = [part for part in (_DOCUMENT_MARKS if marked else _END_ALONE).split(text) if part.strip()]
    return parts if marked or len(parts) > 1 else []


def _by_line(text: str, place: Place) -> list[list[Turn]] | None:
    """Dialogues, one a line, in which a mark ends each utterance, as DailyDialog writes them."""
    if _UTTERANCE_END not in text[: text.find("\n")]:
        return None
    dialogues = []
    for line in text.split("\n"):
        said = [each for part in line.replace("__eot__", "").split(_UTTERANCE_END) if (each := text_of(part, place))]
        if line.strip() and (len(said) < 2 or _UTTERANCE_END not in line):
            return None
        roles = messages.alternating_roles(len(said), place)
        dialogues.append([Turn(role, each) for role, each in zip(roles, said, strict=True)])
    return [turns for turns in dialogues if turns]


def _numbered(text: str, place: Place) -> list[list[Turn]] | None:
    """Dialogues of numbered lines that begin anew with 1: a persona, then exchanges, as PersonaChat writes them."""
    if not _PERSONA.match(text[2:]):
        return None
    lines = [_NUMBERED_LINE.fullmatch(line) for line in text.split("\n") if line.strip()]
    dialogues: list[list[Turn]] = []
    for line in lines:
        if line is None:
            return None
        if line[1] == "1":
            dialogues.append([])
        asked, tab, rest = line[2].partition("\t")
        if not dialogues or not (tab or _PERSONA.match(asked)):
            return None
        turns = dialogues[-1]
        if tab:
            reply = rest.partition("\t")[0]  # what follows are candidates
            turns += [Turn("user", text_of(asked, place)), Turn("assistant", text_of(reply, place))]
        else:
            previous = turns.pop(0).content + "\n" if turns and turns[0].role == "system" else ""
            turns.insert(0, Turn("system", previous + text_of(asked, place)))
    return dialogues if all(len(turns) > 1 for turns in dialogues) else None
