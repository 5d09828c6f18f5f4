"""Text as it was written, without what only a terminal or another program's mistake put into it."""

import re
import unicodedata

# Control characters other than \n and \t, other line breaks, and halves of surrogate pairs, which UTF-8 cannot encode.
_ODD = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_TERMINAL = re.compile("\x1b\\[[0-9;?]*[ -/]*[@-~]|\x1b\\][^\x07\x1b\n]*(?:\x07|\x1b\\\\)")
_LINE_BREAKS = re.compile("\r\n|[\r\x0b\x0c\x1c-\x1e\u2028\u2029]")
_C1 = re.compile("[\x80-\x9f]")

# Windows text (cp1252) that was read as Latin-1: "\x93" is a quotation mark there.
_WINDOWS = {code: bytes([code]).decode("cp1252", "ignore") for code in range(0x80, 0xA0)}

# What shows nothing: a message that consists of these alone is empty.
_INVISIBLE = re.compile(
    "[\\s\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e0fff]+"
)
_MARK_CHARACTERS = 60
_CODE_INDENT = 4
"""A single line that begins with as many spaces, or with a tab, is code."""


_END_MARK = re.compile(
    r"(?:\s*(?:<\|(?:endoftext|im_end|eot_id|eom_id|end_of_text|end_of_turn|end|eos)\|>|<end_of_turn>|<eos>|</s>"
    r"|<eo[ahm]>))+\s*\Z"
)
_SEPARATOR = re.compile(r"\n\n###\s*\Z")
"""What OpenAI's guide put at the end of a prompt."""


def without_end_mark(text: str) -> str:
    """Return the text without the token at its end that closes a message in another program's template."""
    if text.endswith("###"):
        return _SEPARATOR.sub("", text)
    if not text.endswith(">") or not (mark := _END_MARK.search(text[-_MARK_CHARACTERS:])):
        return text
    if "</s>" in mark[0] and "<s>" in text:  # HTML that is struck through
        return text
    return text[: len(text) - len(mark[0])].rstrip()


def clean(text: str, *, repair_encoding: bool = False) -> str:
    """Return the text in NFC, with "\\n" line ends, without control characters and outer blank lines.

    The first line keeps its indentation where another line is indented as well, because it is then code or a list.
    Text of invisible characters alone becomes empty.
    """
    # Most texts can be printed, which is told in a third of the time.
    if not text.replace("\n", "").isprintable() and _ODD.search(text):
        text = _without_odd(text)
    if not text.isascii():
        if repair_encoding:
            import ftfy

            text = ftfy.fix_encoding(text)
        text = unicodedata.normalize("NFC", text.replace("\ufeff", ""))
        if _INVISIBLE.fullmatch(text):
            return ""
    stripped = text.strip()
    if len(stripped) != len(text) and text[0] in " \t\n\u00a0\u3000":
        return _indent(text, stripped) + stripped
    return stripped


def _without_odd(text: str) -> str:
    text = _LINE_BREAKS.sub("\n", _TERMINAL.sub("", text))
    controls = set(_C1.findall(text))
    if controls == {"\x85"}:  # alone it is the line break of old mainframes, among others an ellipsis
        text = text.replace("\x85", "\n")
    elif controls:
        text = text.translate(_WINDOWS)
    return _ODD.sub("", text)


def _indent(text: str, stripped: str) -> str:
    """The indentation of the first line that is not blank, where it means something."""
    before = text[: text.find(stripped)] if stripped else ""
    indent = before[before.rfind("\n") + 1 :]
    if not indent.strip(" \t"):
        others = stripped.split("\n")[1:]
        if any(line[:1] in (" ", "\t") and line.strip() for line in others):
            return indent
        if not others and (len(indent) >= _CODE_INDENT or "\t" in indent):
            return indent
    return ""
