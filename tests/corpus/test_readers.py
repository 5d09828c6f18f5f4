"""Finding files and reading their items."""

import json
from pathlib import Path
from typing import Any

import pytest

from theta.corpus import readers
from theta.errors import DataError

PAIR = {"question": "What is DNS?", "answer": "It turns names into addresses."}
OTHER = {"question": "What is ARP?", "answer": "It turns addresses into hardware addresses."}


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def values(path: Path) -> list[Any]:
    return [item.value for item in readers.read(path)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.json", "a.jsonl", "deep/er/c.json", "deep/UPPER.JSON"):
        write(tmp_path / name, "[]")
    for name in ("README.md", ".hidden.json", ".dvc/cache.json", "table.csv"):
        write(tmp_path / name, "[]")
    return tmp_path


def found(folder: Path, *include: str) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in readers.find(folder, include)]


def test_files_at_any_depth_are_found_sorted_and_others_are_skipped(folder: Path) -> None:
    assert found(folder) == ["a.jsonl", "b.json", "deep/UPPER.JSON", "deep/er/c.json"]


@pytest.mark.parametrize(
    ("include", "expected"),
    [
        (["b.json"], ["b.json"]),
        (["c.json", "a.*"], ["a.jsonl", "deep/er/c.json"]),
        (["deep/*"], ["deep/UPPER.JSON", "deep/er/c.json"]),
        (["deep/er/c.json"], ["deep/er/c.json"]),
    ],
)
def test_include_matches_names_and_relative_paths(folder: Path, include: list[str], expected: list[str]) -> None:
    assert found(folder, *include) == expected


def test_linked_folders_are_searched(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    write(elsewhere / "d.json", "[]")
    (folder / "linked").symlink_to(elsewhere)
    assert found(folder, "linked/*") == ["linked/d.json"]


def test_a_single_file_is_a_path_too(folder: Path) -> None:
    assert readers.find(folder / "b.json", []) == [folder / "b.json"]


@pytest.mark.parametrize("name", ["missing", "missing.json"])
def test_a_missing_path_is_an_error_with_a_remedy(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=rf"{name} does not exist; .* data\.path in params\.yaml"):
        readers.find(tmp_path / name, [])


@pytest.mark.parametrize("name", ["", "README.md"])
def test_a_path_without_conversations_is_an_error_with_a_remedy(tmp_path: Path, name: str) -> None:
    write(tmp_path / "README.md", "text")
    with pytest.raises(DataError, match=r"holds no \.json or \.jsonl file; .* data\.path"):
        readers.find(tmp_path / name, [])


def test_a_pattern_that_matches_nothing_is_an_error_with_a_remedy(folder: Path) -> None:
    with pytest.raises(DataError, match=r"'linus\.json' matches none of the 4 .* data\.include in params\.yaml"):
        readers.find(folder, ["b.json", "linus.json"])


@pytest.mark.parametrize(
    "content",
    [
        json.dumps([PAIR, OTHER]),
        json.dumps({"conversations": [PAIR, OTHER]}),
        json.dumps({"version": 2, "data": [PAIR, OTHER], "tags": ["a", "b"]}),
        json.dumps({"anything": [PAIR, OTHER]}),
        json.dumps(PAIR) + "\n\n" + json.dumps(OTHER) + "\n",
        json.dumps(PAIR) + "\r\n" + json.dumps(OTHER),
    ],
)
@pytest.mark.parametrize("name", ["x.json", "x.jsonl"])
def test_every_layout_gives_the_same_items(tmp_path: Path, name: str, content: str) -> None:
    assert values(write(tmp_path / name, content)) == [PAIR, OTHER]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_every_encoding_that_json_allows_is_read(tmp_path: Path, encoding: str) -> None:
    path = write(tmp_path / "x.json", '[{"question": "Été?", "answer": "Ja, „schön“."}]'.encode(encoding))
    assert values(path) == [{"question": "Été?", "answer": "Ja, „schön“."}]


@pytest.mark.parametrize(
    "single",
    [
        PAIR,
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]},
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]},
        {"exchanges": [PAIR, OTHER]},
        {"nothing": "known"},
    ],
)
def test_a_single_conversation_is_one_item(tmp_path: Path, single: dict[str, Any]) -> None:
    assert values(write(tmp_path / "x.json", json.dumps(single))) == [single]


def test_a_list_of_items_with_a_source_is_not_a_single_conversation(tmp_path: Path) -> None:
    items = [{"from": "forum", "messages": []}, {"from": "mail", "messages": []}]
    assert values(write(tmp_path / "x.json", json.dumps({"conversations": items}))) == items


def test_sources_count_items_from_one_and_lines_by_their_number(tmp_path: Path) -> None:
    whole = write(tmp_path / "linux.json", json.dumps([PAIR, OTHER]))
    lines = write(tmp_path / "chat.jsonl", f"\n{json.dumps(PAIR)}\n\n{json.dumps(OTHER)}\n")
    assert [item.source for item in readers.read(whole)] == [f"{whole}#1", f"{whole}#2"]
    assert [item.source for item in readers.read(lines)] == [f"{lines}#2", f"{lines}#4"]
    assert {item.domain for item in readers.read(whole)} == {"linux"}


def test_line_separators_inside_a_text_do_not_end_a_line(tmp_path: Path) -> None:
    pair = {"question": "one\u2028two\x85three", "answer": "yes"}
    path = write(tmp_path / "x.jsonl", "\n".join(json.dumps(pair, ensure_ascii=False) for _ in range(2)))
    assert values(path) == [pair, pair]


@pytest.mark.parametrize("name", ["x.json", "x.jsonl"])
def test_a_broken_line_is_an_item_marked_broken(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, f'{json.dumps(PAIR)}\n{{"question": "What\n{json.dumps(OTHER)}\n')
    items = list(readers.read(path))
    assert [item.broken for item in items] == [False, True, False]
    assert (items[1].source, items[1].value) == (f"{path}#2", '{"question": "What')


def test_nan_is_a_missing_value(tmp_path: Path) -> None:
    assert values(write(tmp_path / "x.json", '[{"question": "Hi", "answer": NaN}]')) == [
        {"question": "Hi", "answer": None}
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "x.json",
            '[\n{"question": "a"},\n{"question" "b"}\n]',
            r"x\.json, line 3: neither JSON nor JSON Lines .*corr",
        ),
        ("x.json", "Dear reader,\nhello", r"x\.json, line 1: neither JSON nor JSON Lines .*data\.include"),
        ("x.jsonl", '{"question": "a"}\n{"b\n{"c\n', r"x\.jsonl, line 2: neither JSON nor JSON Lines"),
        ("x.json", "[" * 100_000, r"x\.json, line 1: .*nested too deeply"),
        ("x.json", b'[\n"caf\xe9"]', r"x\.json, line 2: not UTF-8 text .*save the file as UTF-8"),
        ("x.json", " \n", r"x\.json is empty; remove it"),
        ("x.json", "3", r"x\.json holds a single int; it must hold a list"),
        ("x.json", '{"train": [{}], "test": [{}]}', r"x\.json holds several lists \(train, test\); keep one"),
    ],
)
def test_a_broken_file_is_an_error_with_line_and_remedy(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        list(readers.read(write(tmp_path / name, content)))
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be read \(.+\); .*data\.include"):
        list(readers.read(tmp_path / "gone.json"))
