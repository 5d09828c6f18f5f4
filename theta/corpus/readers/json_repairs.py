"""What looks like JSON but is none -> the values that it plainly means: comments, commas at the end, Python's literals.

    {"a": 1,}        // a comment        {'a': None}

Anything that could mean two things is left as the fault that it is.
"""

import ast
import re
import warnings
from typing import Any

from theta.corpus.items import Number
from theta.corpus.readers import json_values

CHARACTERS_AT_MOST = 4_000_000
"""Python needs a hundred times as much memory to read a literal."""

# What is not closed ends with the text, so that nothing is looked at twice.
_STRING = r'"(?:[^"\\]|\\.|\\\Z)*(?:"|\Z)'
_COMMENT = re.compile(rf"({_STRING})|//[^\n]*|/\*.*?(?:\*/|\Z)", re.DOTALL)
_COMMA_AT_END = re.compile(rf"({_STRING})|,(?=\s*[}}\]])", re.DOTALL)
_ONE_STRING = re.compile(r"""[rRuU]?(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")""")
_LITERAL = re.compile(r"[{\[][\s\[{]*'")


def values(text: str) -> list[Any] | None:
    """Return the values that a text means which is no JSON; none for a comment alone, None if it stays a fault."""
    if len(text) > CHARACTERS_AT_MOST:
        return None
    if _LITERAL.match(text):
        return _literal(text)
    plain = _COMMENT.sub(_string_or_space, text) if "//" in text or "/*" in text else text
    plain = _COMMA_AT_END.sub(lambda found: found[1] or "", plain)
    if plain == text:
        return None
    found = list(json_values.values(plain))
    return None if any(isinstance(each, json_values.Fault) for each in found) else found


def _string_or_space(found: re.Match[str]) -> str:
    is_open = found[0].startswith("/*") and not found[0].endswith("*/")
    return found[1] or ("?" if is_open else " ")


def _literal(text: str) -> list[Any] | None:
    """The value of a literal of Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a backslash that begins no escape
            text = text.strip(json_values.SEPARATORS).replace("\r\n", "\n").replace("\r", "\n")
            tree = ast.parse(text, mode="eval")
        return [_value(tree.body, text.encode().split(b"\n"))]
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _value(node: ast.expr, lines: list[bytes]) -> Any:  # noqa: PLR0911
    """The value of a node, as the reader of JSON gives it.

    Raises:
        ValueError: it is not made of lists, objects, texts and numbers, or a key stands twice.
    """
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(each, lines) for each in node.elts]
    if isinstance(node, ast.Dict):
        keys = [key.value for key in node.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)]
        if len(keys) != len(node.keys) or len({key.strip().lower() for key in keys}) != len(keys):
            raise ValueError("a key is not text, or occurs twice")
        return dict(zip(keys, (_value(each, lines) for each in node.values), strict=True))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
        return Number(f"-{_value(node.operand, lines)}")
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        if node.lineno != node.end_lineno or not _ONE_STRING.fullmatch(_source(node, lines)):
            raise ValueError("two texts without a comma between them")
        return node.value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(node, ast.Constant) and (node.value is None or isinstance(node.value, bool)):
        return node.value
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return Number(_source(node, lines))  # as it is written
    if isinstance(node, ast.Name) and node.id in ("nan", "NaN", "null", "inf"):
        return None
    raise ValueError("an expression")


def _source(node: ast.expr, lines: list[bytes]) -> str:
    return lines[node.lineno - 1][node.col_offset : node.end_col_offset].decode()
