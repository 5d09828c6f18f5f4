"""The log of a messenger, whose lines begin with a time and a name -> who says what.

    12/31/23, 10:00 - Ann: Hi        [10:00] <Ann> Hi        [31-Dec-23 10:00 AM] Ann

The lines after such a line belong to its message.
"""

import re
from collections import Counter

from theta.corpus.shapes.fields import TurnRole, role_of
from theta.corpus.shapes.messages import unknown_speakers
from theta.corpus.shapes.turns import Place

_WHATSAPP = re.compile(
    r"(?m)^\u200e?\[?\d{1,4}[./-]\d{1,2}[./-]\d{1,4}(?:,| à| às| um| klo)? \u200e?\d{1,2}[:.]\d{2}(?:[:.]\d{2})?"
    r"(?:[ \u00a0\u202f]?[AaPp]\.?[ \u00a0\u202f]?[Mm]\.?)?\]?"
    r"(?: -)? (?:\u200e?([^:\n]{1,60}): )?"
)
_IRC = re.compile(r"(?m)^\[?(?:\d{4}-\d\d-\d\d[ T])?\d{1,2}:\d{2}(?::\d{2})?\]?[ \t]*<[ @+%&~]?([^>\s]{1,40})>[ \t]?")
_DISCORD = re.compile(
    r"(?m)^\[\d{1,4}[-/.]\w{2,4}[-/.]\d{2,4} \d{1,2}:\d{2}(?::\d{2})?(?: [AaPp][Mm])?\]"
    r" ([^\n:]{1,60}?)(?: \(pinned\))?\n"
)
_KAKAO = re.compile(
    r"(?m)^(?:\[([^\]\n]{1,40})\] \[(?:오전|오후|AM|PM)? ?\d{1,2}:\d{2}(?: [AP]M)?\] |-{10,20} [^\n-]{1,60} -{10,20}$)"
)
_LOGS = (_WHATSAPP, _IRC, _DISCORD, _KAKAO)
_LOG_HEADS = re.compile(r"--- Log opened [^\n]*\n|={20,}\nGuild: [^=]*\n={20,}\n+")
_LOG_TAILS = re.compile(r"\n--- Log closed [^\n]*\s*\Z|\n={20,}\nExported [^\n]*\n(?:={20,}\s*)?\Z")
_LEFT_OUT = re.compile(
    r"\u200e[^\n]*(?:encrypted|verschlüsselt|cifrad|chiffr)[^\n]*|"
    r"\u200e?<(?:Media omitted|Medien ausgeschlossen|Multimedia omitido|Médias omis|attached: [^>\n]{1,200})>|"
    r"\u200e?(?:image|video|audio|sticker|GIF|document) omitted|Missed (?:voice|video) call\.?|"
    r"\u200e?(?:This message was deleted|You deleted this message|Diese Nachricht wurde gelöscht|"
    r"Du hast diese Nachricht gelöscht|Se eliminó este mensaje|Ce message a été supprimé)\.?"
)
"""What WhatsApp writes itself; on iPhones an invisible mark stands in front of it."""
_EDITED = re.compile(
    r"\s*\u200e?<(?:This message was edited|Diese Nachricht wurde bearbeitet\.?|Se editó este mensaje\.?)>\Z"
)
_EDITED_CHARACTERS = 80
_MIN_LOGGED = 2


def may_begin(text: str) -> bool:
    """Whether a text begins with what a program writes above a log; times in front of lines are not looked for."""
    return text[:1] in ("-", "=", "[") and (_LOG_HEADS.match(text) or _KAKAO.match(text)) is not None


def turns_of(text: str, place: Place) -> list[tuple[TurnRole, str]] | None:
    """Return who says what in a log, without what the program itself writes there; None if the text is none.

    Raises:
        UnusableError: nobody knows who the speakers are.
    """
    if head := _LOG_HEADS.match(text):
        text = _LOG_TAILS.sub("", text[head.end() :])
    if not text[:3].lstrip("[\u200e")[:1].isdigit() and not _KAKAO.match(text):
        return None
    return next((found for line in _LOGS if (found := _logged(text, line, place))), None)


def _logged(text: str, line: re.Pattern[str], place: Place) -> list[tuple[TurnRole, str]] | None:
    marks = list(line.finditer(text))
    if sum(bool(mark[1]) for mark in marks) < _MIN_LOGGED or text[: marks[0].start()].strip():
        return None
    said = [
        (mark[1], text[mark.end() : following.start() if following else len(text)].strip())
        for mark, following in zip(marks, [*marks[1:], None], strict=True)
        if mark[1]
    ]
    counts = Counter(name for name, _ in said)
    roles = {name: role_of(name, place.rules) for name in counts}
    if not {"user", "assistant"} <= set(roles.values()):
        for name, count in counts.items():
            place.notes.add("speaker", name, place.source, count)
        raise unknown_speakers(counts)
    kept = [
        (roles[name], words[:-_EDITED_CHARACTERS] + _EDITED.sub("", words[-_EDITED_CHARACTERS:]))
        for name, words in said
        if roles[name] != "unknown" and not _LEFT_OUT.fullmatch(words)
    ]
    if len(kept) < len(said):
        place.note("mended", "messages of others left out")
    return kept
