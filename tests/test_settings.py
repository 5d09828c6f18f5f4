"""Strict reading of a YAML file: one line names the file, the place, the value and the allowed values."""

import re
from pathlib import Path

import pytest
from pydantic import Field

from theta.errors import SettingsError
from theta.settings import Settings, load, load_all, read


class Example(Settings):
    """A section."""

    rate: float = Field(gt=0, le=1)
    """A number."""
    name: str = "a"
    """A text."""
    patterns: list[str] = Field(default_factory=list)
    """A list."""
    limit: int | None = None
    """A number or nothing."""


def fault(tmp_path: Path, text: str) -> str:
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8", newline="\n")
    with pytest.raises(SettingsError) as caught:
        load_all(path, {"example": Example}, whole_file=True)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message.removeprefix(str(path))


@pytest.mark.parametrize(("written", "value"), [("1e-05", 1e-5), ("1E-5", 1e-5), ("1e-5", 1e-5), (".5", 0.5), ("1", 1)])
def test_numbers_in_every_spelling(tmp_path: Path, written: str, value: float) -> None:
    (tmp_path / "params.yaml").write_text(f"example:\n  rate: {written}\n")
    assert load(tmp_path / "params.yaml", "example", Example).rate == value


def test_words_that_older_yaml_reads_as_booleans_are_text(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("example: {rate: 1, name: on, patterns: [no, yes]}")
    loaded = load(tmp_path / "params.yaml", "example", Example)
    assert (loaded.name, loaded.patterns) == ("on", ["no", "yes"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "example:\n  rate: 1\n  rate: 2",
            r', line 3, is not valid YAML: .*found duplicate key "rate"; correct it there',
        ),
        ("example: {rate: 1}\nexample: {rate: 2}", r', line 2, is not valid YAML: .*duplicate key "example"; correct'),
        ("example:\n\trate: 1", r", line 2, is not valid YAML: .*found character '.t' that cannot start any token"),
        ("example: [1", r", line 1, is not valid YAML: .*expected ',' or '\]'"),
        ("example: {rate: *x}", r", line 1, is not valid YAML: found undefined alias 'x'"),
        (
            "example: {rate: 1}\n---\na: 1",
            r", line 2, is not valid YAML: expected a single document .*another document",
        ),
        ("example: !!python/name:os.system x", r", line 1, is not valid YAML: could not determine a constructor"),
        ("{a: 1}: 2", r", line 1, is not valid YAML: .*found unhashable key"),
        ("a: 2026-13-01", r" is not valid YAML: month must be in 1..12"),
        ("a: \x1b", r" is not valid YAML: unacceptable character"),
        ("[" * 5000, r" is not valid YAML: maximum recursion depth"),
        ("[1, 2]: 3\nexample: {rate: 1}", r": unknown section '\(1, 2\)'\."),
        ("7: 3\nexample: {rate: 1}", r": unknown section '7'\."),
        ("~: 3\nexample: {rate: 1}", r": unknown section 'None'\."),
        ("example:\n  rate: 1\n  [1, 2]: 3", r": example has the key \(1, 2\), expected text\."),
        ("example:\n  rate: 1\n  7: 3", r": example has the key 7, expected text\."),
        ("example: 3", r": section 'example' is 3, expected keys\."),
        ("example:", r": section 'example' is missing or empty\."),
        ("- 1", r" must hold sections .*; it holds list\."),
        ("", r" must hold sections .*; it holds NoneType\."),
        ("example: {rate: 2}", r": example\.rate is 2 but must be above 0 and at most 1\."),
        ("example: {rate: .nan}", r": example\.rate is nan but must be above 0 and at most 1\."),
        ("example: {rate: 1e400}", r": example\.rate is inf but must be above 0 and at most 1\."),
        ("example: {rate: fast}", r": example\.rate is 'fast', expected a valid number\."),
        ("example: {rate: true}", r": example\.rate is True, expected a number or text\."),
        ("example: {rate: 1, patterns: [a, 3]}", r": example\.patterns\.1 is 3, expected a valid string\."),
        (r'example: {rate: 1, name: "a\e[31m"}', r": example\.name is .*, expected text without control characters"),
        (r'example: {rate: 1, name: "\ud83d"}', r": example\.name is .*, expected text without control characters"),
        (r'example: {rate: 1, patterns: ["a\n"]}', r": example\.patterns is .*, expected text without control char"),
        ("example: {rat: 1}", r": example\.rate is missing; unknown key example\.rat \(did you mean 'rate'\?\)\."),
    ],
)
def test_a_fault_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    assert re.search(f"^{words}", fault(tmp_path, text))


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_bytes(b"a: caf\xe9")
    with pytest.raises(SettingsError, match=r"params\.yaml is not UTF-8 \(byte 6\); save it as UTF-8"):
        read(tmp_path / "params.yaml")
