"""Manual pages (man macros of troff) -> blocks."""

import re

from recipes.starter.blocks import Block, Kind, tidy

_ESCAPES = (
    (re.compile(r'\\".*'), ""),
    (re.compile(r"\\f(?:\[\w*\]|\(..|.)"), ""),
    (re.compile(r"\\s[-+]?\d"), ""),
    (re.compile(r"\\\((?:aq|cq|oq)|\\\[(?:aq|cq|oq)\]"), "'"),
    (re.compile(r"\\\((?:lq|rq|dq)|\\\[(?:lq|rq|dq)\]|\\\*\((?:lq|rq)"), '"'),
    (re.compile(r"\\\((?:em|en)|\\\[(?:em|en)\]"), "-"),
    (re.compile(r"\\(?:\(..|\[[^\]]*\]|\*\(..|\*\[[^\]]*\]|\*.)"), ""),
    (re.compile(r"\\(?:[&%/,:|^]|c$)"), ""),
    (re.compile(r"\\[-~ 0]"), lambda found: "-" if found[0] == r"\-" else " "),
    (re.compile(r"\\[e\\]"), r"\\"),
)
_BREAKS = frozenset("PP P LP HP IP TP TQ RS RE sp br".split())
_FONTS = frozenset("B I R BR BI RB RI IB IR SM SB".split())
_UNFILLED = {"nf": "fi", "EX": "EE", "TS": "TE", "SY": "YS", "PS": "PE"}


def blocks(content: bytes) -> list[Block]:
    """Return the blocks of a page; none for a page in another macro language."""
    text = content.decode("utf-8", "replace")
    if "\n.SH" not in text:
        return []
    found: list[Block] = []
    words: list[str] = []
    kind: Kind = "paragraph"
    until = ""
    for line in text.splitlines():
        macro, argument = _macro(line)
        if until:
            until = "" if macro == until else until
            continue
        if macro in _UNFILLED:
            until = _UNFILLED[macro]
            words, kind = _flush(found, kind, words)
            found.append(Block("gap", ""))
        elif macro in ("SH", "SS"):
            words, kind = _flush(found, kind, words)
            kind = "heading"
            words = [argument] if argument else []
            if argument:
                words, kind = _flush(found, kind, words)
        elif macro in _BREAKS:
            words, kind = _flush(found, kind, words)
            if macro == "IP" and argument:
                found.append(Block("term", tidy(argument.split('"')[0])))
            kind = "term" if macro in ("TP", "TQ") else "paragraph"
        elif macro in _FONTS or not macro:
            words.append(argument)
            if kind != "paragraph" and argument:  # a heading or a term is one line
                words, kind = _flush(found, kind, words)
    _flush(found, kind, words)
    return found


def _macro(line: str) -> tuple[str, str]:
    """The macro of a line, if any, and the text of the line."""
    match = re.match(r"['.][ \t]*(\S*)[ \t]*(.*)", line)
    if not match:
        return "", _unescaped(line)
    name, argument = match.groups()
    if name.startswith('\\"'):
        return '\\"', ""
    return name, _arguments(name, _unescaped(argument))


def _arguments(name: str, text: str) -> str:
    """The arguments of a macro as text; alternating fonts (BR, IR) join them without spaces."""
    parts = [quoted or bare for quoted, bare in re.findall(r'"([^"]*)"|(\S+)', text)]
    return ("" if len(name) == 2 and name in _FONTS and name not in ("SM", "SB") else " ").join(parts)


def _unescaped(text: str) -> str:
    for pattern, plain in _ESCAPES:
        text = pattern.sub(plain, text)
    return text


def _flush(found: list[Block], kind: Kind, words: list[str]) -> tuple[list[str], Kind]:
    text = tidy(" ".join(words))
    if text:
        found.append(Block(kind, text))
    return [], "paragraph"
