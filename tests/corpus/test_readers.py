"""Reading files of every format: the same items, in blocks of bounded size, and what is said of those with faults."""

import bz2
import gzip
import io
import json
import lzma
import pickle
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
import zstandard

from theta.corpus.items import Item, Number
from theta.corpus.readers import json_files
from theta.corpus.readers.content import CHUNK_BYTES
from theta.corpus.readers.finding import File
from theta.corpus.readers.reading import read
from theta.corpus.readers.structure import Structure
from theta.errors import DataError

PAIR = {"question": "What is DNS?", "answer": "It turns names into addresses."}
OTHER = {"question": "What is ARP?", "answer": "It turns addresses into hardware addresses."}
USER = {"role": "user", "content": "Hi"}
ASSISTANT = {"role": "assistant", "content": "Hello"}


def is_message(value: Any) -> bool:
    return isinstance(value, dict) and "role" in value


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def items(path: Path) -> list[Item]:
    return [item for block in read(File.at(path), is_message) for item in pickle.loads(pickle.dumps(block)).items()]


def values(path: Path) -> list[Any]:
    return [item.value for item in items(path)]


def numbers(path: Path) -> list[str]:
    assert all(item.source.startswith(f"{path}#") for item in items(path))
    return [item.source.rpartition("#")[2] for item in items(path)]


def until_the_fault(path: Path) -> tuple[list[Any], str]:
    """What is yielded before the error, and its message."""
    found: list[Any] = []
    try:
        for block in read(File.at(path), is_message):
            found += [item.value for item in block.items()]
    except DataError as fault:
        return found, str(fault)
    pytest.fail("no error was raised")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (json.dumps([PAIR, OTHER]), ["1", "2"]),
        (json.dumps([PAIR, OTHER], indent=2), ["1", "2"]),
        (json.dumps([PAIR, OTHER], indent=0), ["1", "2"]),
        (f"[{json.dumps(PAIR)},\n{json.dumps(OTHER)},\n]", ["1", "2"]),
        (f"{json.dumps(PAIR)}\n\n{json.dumps(OTHER)}\n", ["1", "3"]),
        (f"\n{json.dumps(PAIR)}\r\n{json.dumps(OTHER)}", ["2", "3"]),
        (f"{json.dumps(PAIR)},\n{json.dumps(OTHER)},\n", ["1", "2"]),
        (f"{json.dumps(PAIR)}{json.dumps(OTHER)}\n", ["1.1", "1.2"]),
        (f"{json.dumps(PAIR)}\ufeff{json.dumps(OTHER)}\n", ["1.1", "1.2"]),
        (f"\x1e{json.dumps(PAIR)}\n\x1e{json.dumps(OTHER)}\n", ["1", "2"]),
        (f"{json.dumps(PAIR, indent=1)}\n{json.dumps(OTHER, indent=1)}", ["1", "2"]),
        (f"{json.dumps([PAIR])}\n{json.dumps([OTHER])}", ["1", "2"]),
        (f"{json.dumps([PAIR], indent=1)}\n{json.dumps([OTHER], indent=1)}", ["1", "2"]),
        (f"{json.dumps([PAIR, OTHER])}\n\n[]\n", ["1.1", "1.2"]),
        (f"{json.dumps([PAIR, OTHER])}\n{{}}\n", ["1.1", "1.2", "2"]),
        (f"{json.dumps(PAIR)}\n{json.dumps(OTHER, indent=1)}\n{{}}\n", ["1", "2", "6"]),
        (f"{json.dumps(PAIR)}\n{json.dumps([OTHER], indent=1)}\n", ["1", "2"]),
    ],
)
@pytest.mark.parametrize("name", ["x.json", "x.jsonl", "x.ndjson", "x.txt"])
def test_every_layout_of_json_gives_the_same_items(
    tmp_path: Path, name: str, content: str, expected: list[str]
) -> None:
    if name == "x.txt" and not content.lstrip("[\n").startswith("{"):
        pytest.skip("a text that begins with a mark is a text")
    path = write(tmp_path / name, content)
    assert [value for value in values(path) if value] == [PAIR, OTHER]
    assert numbers(path) == expected


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
@pytest.mark.parametrize("name", ["x.json", "x.csv", "x.txt"])
def test_every_encoding_of_unicode_is_read(tmp_path: Path, encoding: str, name: str) -> None:
    texts = {
        "x.json": '[{"text": "Été, „schön“ 😀"}]',
        "x.csv": 'text\n"Été, „schön“ 😀"\n',
        "x.txt": "Été, „schön“ 😀",
    }
    assert values(write(tmp_path / name, texts[name].encode(encoding))) == [{"text": "Été, „schön“ 😀"}]


COMPRESSED: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".zst": zstandard.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}


@pytest.mark.parametrize("suffix", COMPRESSED)
def test_compressed_files_are_told_by_their_content(tmp_path: Path, suffix: str) -> None:
    one, two = (COMPRESSED[suffix](json.dumps(each).encode() + b"\n") for each in (PAIR, OTHER))
    for name in (f"x.jsonl{suffix}", "x.json"):
        path = write(tmp_path / name, one + two)
        assert values(path) == [PAIR, OTHER]
        assert {item.domain for item in items(path)} == {"x"}


@pytest.mark.parametrize("suffix", COMPRESSED)
def test_what_a_damaged_compressed_file_holds_before_the_fault_is_read(tmp_path: Path, suffix: str) -> None:
    noise = random.Random(0)
    lines = [json.dumps({"text": f"{noise.random()}", "n": n}).encode() + b"\n" for n in range(20_000)]
    path = write(tmp_path / f"x.jsonl{suffix}", COMPRESSED[suffix](b"".join(lines))[:-100])
    found, message = until_the_fault(path)
    assert len(found) > 10_000 or suffix == ".bz2"  # bzip2 gives nothing of a block that is not complete
    assert "is compressed, and damaged or incomplete" in message


TABLE = pa.table({"question": ["What?", "Why?"], "answer": ["That.", None]})


def as_parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def as_feather(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pyarrow.feather.write_feather(table, sink)
    return sink.getvalue()


def as_stream(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue()


@pytest.mark.parametrize("write_table", [as_parquet, as_feather, as_stream])
@pytest.mark.parametrize("name", ["x.parquet", "x.arrow", "x.json"])
def test_tables_of_arrow_are_told_by_their_content(
    tmp_path: Path, name: str, write_table: Callable[[pa.Table], bytes]
) -> None:
    path = write(tmp_path / name, write_table(TABLE))
    assert values(path) == [{"question": "What?", "answer": "That."}, {"question": "Why?", "answer": None}]
    assert numbers(path) == ["1", "2"]


@pytest.mark.parametrize("missing_bytes", [1, 8, 9])
def test_a_stream_of_arrow_that_is_cut_off_is_an_error(tmp_path: Path, missing_bytes: int) -> None:
    _, message = until_the_fault(write(tmp_path / "x.arrow", as_stream(TABLE)[:-missing_bytes]))
    assert "is damaged, or no arrow stream file" in message


def test_values_of_arrow_are_as_in_json(tmp_path: Path) -> None:
    table = pa.table(
        {
            "n": [7],
            "x": [0.5],
            "nan": [float("nan")],
            "yes": [True],
            "bytes": [b"\xff"],
            "list": [[{"role": "user", "n": 1}]],
            "map": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())),
            "day": pa.array([0], pa.date32()),
        }
    )
    [value] = values(write(tmp_path / "x.parquet", as_parquet(table)))
    assert value == {
        "n": "7", "x": "0.5", "nan": None, "yes": True, "bytes": None, "list": [{"role": "user", "n": "1"}],
        "map": {"k": "1"}, "day": "1970-01-01",
    }  # fmt: skip
    assert isinstance(value["n"], Number)


CSV = 'question,answer\r\n"What, ""exactly""?","One\nTwo"\r\n\r\nWhy?,Because\r\n'


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.csv", CSV),
        ("x.csv", CSV.replace(",", ";").replace("What;", "What,")),
        ("x.csv", "sep=;\r\n" + CSV.replace(",", ";").replace("What;", "What,")),
        ("x.tsv", CSV.replace(",", "\t").replace("What\t", "What,")),
        ("x.csv", CSV.replace(",", "|").replace("What|", "What,")),
        ("x.csv", CSV.replace("\r\n", "\r")),
        ("x.csv", "\ufeff" + CSV),
        ("x.csv", ",question,answer\n" + '0,"What, ""exactly""?","One\nTwo"\n1,Why?,Because,\n'),
    ],
)
def test_dialects_of_csv(tmp_path: Path, name: str, content: str) -> None:
    path = write(tmp_path / name, content)
    assert values(path) == [
        {"question": 'What, "exactly"?', "answer": "One\nTwo"},
        {"question": "Why?", "answer": "Because"},
    ]
    assert numbers(path) == ["1", "2"]


def test_rows_of_csv_that_do_not_fit(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", b"question,answer\na,b,c\nd\nx,caf\xe9\n")
    found = items(path)
    assert [item.broken for item in found] == [
        "too_many_cells: 3 in a table of 2 columns",
        "",
        "not_utf8: byte 0xe9 is not UTF-8",
    ]
    assert [item.value for item in found] == ["a, b, c", {"question": "d", "answer": ""}, "x, caf?"]


def test_a_text_is_one_item(tmp_path: Path) -> None:
    path = write(tmp_path / "x.md", "# Title\r\n\r\nText.\n")
    assert [(item.value, item.source, item.domain) for item in items(path)] == [
        ({"text": "# Title\r\n\r\nText.\n"}, f"{path}#1", "x")
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (json.dumps([USER, ASSISTANT]), [[USER, ASSISTANT]]),
        (json.dumps([USER, ASSISTANT], indent=1), [[USER, ASSISTANT]]),
        (json.dumps([[USER, ASSISTANT], [USER]]), [[USER, ASSISTANT], [USER]]),
        (f"{json.dumps(USER)}\n{json.dumps(ASSISTANT)}\n", [[USER, ASSISTANT]]),
        (f"{json.dumps([USER, ASSISTANT])}\n{json.dumps([USER])}\n", [[USER, ASSISTANT], [USER]]),
        (f"{json.dumps([USER, ASSISTANT], indent=1)}\n{json.dumps([USER], indent=1)}", [[USER, ASSISTANT], [USER]]),
        (json.dumps({"messages": [USER, ASSISTANT]}), [{"messages": [USER, ASSISTANT]}]),
    ],
)
def test_a_list_of_messages_is_one_item(tmp_path: Path, content: str, expected: list[Any]) -> None:
    path = write(tmp_path / "x.json", content)
    assert values(path) == expected
    assert len(set(numbers(path))) == len(expected)


def test_a_table_of_messages_is_one_item(tmp_path: Path) -> None:
    assert values(write(tmp_path / "x.csv", "role,content\nuser,Hi\nassistant,Hello\n")) == [[USER, ASSISTANT]]
    table = as_parquet(pa.Table.from_pylist([USER, ASSISTANT]))
    assert values(write(tmp_path / "x.parquet", table)) == [[USER, ASSISTANT]]


def test_an_object_is_one_item_even_if_it_holds_others(tmp_path: Path) -> None:
    container = {"version": Number("2"), "data": [PAIR, OTHER]}
    assert values(write(tmp_path / "x.json", json.dumps({**container, "version": 2}))) == [container]


def test_numbers_are_as_they_are_written(tmp_path: Path) -> None:
    path = write(tmp_path / "x.json", f"[[1.10, 1e5, -0, 1e999, {'9' * 5000}, NaN, Infinity, true]]")
    [value] = values(path)
    assert value == ["1.10", "1e5", "-0", "1e999", "9" * 5000, None, None, True]
    assert isinstance(value[0], Number)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ('{"question": "a", "answer": "b", "question": "c"}', "key_twice: question"),
        ('{"question": "a", " Question": "c"}', "key_twice: question"),
        ("[" * 5000 + "]" * 5000, "nested_too_deeply"),
        ('{"a": ' * 200 + "1" + "}" * 200, "nested_too_deeply"),
        ('{"question" "a"}', "not_json: line 2, column 13: Expecting ':' delimiter"),
        ('  {"question": "a" "b"}', "not_json: line 2, column 20: Expecting ',' delimiter"),
        ("plain words", "not_json: line 2, column 1: Expecting value"),
        ('{"a": "caf\xe9"}'.encode("latin-1"), "not_utf8: line 2, column 11: byte 0xe9 is not UTF-8"),
    ],
)
@pytest.mark.parametrize("layout", ["lines", "list"])
def test_an_entry_with_a_fault_is_an_item_that_says_so(
    tmp_path: Path, content: str | bytes, why: str, layout: str
) -> None:
    broken = content if isinstance(content, bytes) else content.encode()
    good = json.dumps(PAIR).encode()
    if layout == "lines":
        path = write(tmp_path / "x.jsonl", good + b"\n" + broken + b"\n" + good)
    elif broken.startswith(b"["):
        pytest.skip("in a list, it is one value among others")
    else:
        path = write(tmp_path / "x.json", b"[" + good + b",\n" + broken + b",\n" + good + b"]")
    found = items(path)
    assert [item.broken for item in found] == ["", why, ""]
    assert [item.value for item in (found[0], found[2])] == [PAIR, PAIR]
    assert found[1].value == broken.decode("utf-8", "replace").strip()


TWO_PAIRS = [{"question": "a", "answer": "b"}, {"question": "c", "answer": None}]


@pytest.mark.parametrize(
    "content",
    [
        '[{"question": "a", "answer": "b",}, {"question": "c", "answer": null},]',
        '{"question": "a", "answer": "b",}\n{"question": "c", "answer": null,}\n',
        '// mine\n[\n{"question": "a", "answer": "b"}, // one\n/* two */ {"question": "c", "answer": null}\n] // end\n',
        '/* mine,\n all mine */\n{"question": "a", "answer": "b"}\n{"question": "c", "answer": null}\n',
        '[\n  {\n    "question": "a",\n    "answer": "b", // really\n  },\n'
        '  {\n    "question": "c",\n    "answer": null,\n  },\n]\n',
        "{'question': 'a', 'answer': 'b'}\n{'question': 'c', 'answer': None}\n",
        "[{'question': 'a', 'answer': \"b\"}, {'question': 'c', 'answer': nan}]",
    ],
)
def test_what_is_plainly_meant_is_read(tmp_path: Path, content: str) -> None:
    found = items(write(tmp_path / "a.json", content))
    assert [(item.value, item.broken) for item in found] == [(pair, "") for pair in TWO_PAIRS]


@pytest.mark.parametrize(
    ("content", "value"),
    [
        ('[{"a": "See http://x/,] and /* this */",}]', {"a": "See http://x/,] and /* this */"}),
        ("[{'a': 'It\\'s \"[5\" long', 'b': 1.50, 'c': -2, 'd': True, 'e': ('x',)}]",
         {"a": "It's \"[5\" long", "b": "1.50", "c": "-2", "d": True, "e": ["x"]}),
    ],
)  # fmt: skip
def test_texts_are_not_changed_by_it(tmp_path: Path, content: str, value: Any) -> None:
    (item,) = items(write(tmp_path / "a.json", content))
    assert item.value == value


@pytest.mark.parametrize(
    "content",
    [
        "[{'a': 1, 'a': 2}]",
        "[{'a': f()}]",
        "[{'a': 'b' + 'c'}]",
        "[{1: 'b'}]",
        "[{a: 'b'}]",
        '[{"a": 1,, "b": 2}]',
        '[{"a" 1,}]',
        "[{'a': " + "[" * 500 + "]" * 500 + "}]",
        "[{'a': " + "-" * 5000 + "1}]",
    ],
)
def test_what_could_mean_two_things_stays_a_fault(tmp_path: Path, content: str) -> None:
    assert [item.broken != "" for item in items(write(tmp_path / "a.json", content))] == [True]


def test_the_pairs_of_an_inner_object_with_a_key_twice_are_a_tuple(tmp_path: Path) -> None:
    path = write(tmp_path / "x.json", '{"data": [{"q": "a", "q": "b"}, {"q": "c"}]}')
    assert values(path) == [{"data": [(("q", "a"), ("q", "b")), {"q": "c"}]}]


def test_halves_of_surrogate_pairs_are_replaced(tmp_path: Path) -> None:
    path = write(tmp_path / "x.json", r'[{"a\ud800": ["x\udc00", "\ud83d\ude00"]}]')
    assert values(path) == [{"a\ufffd": ["x\ufffd", "😀"]}]


def test_line_ends_and_tabs_inside_a_text_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "x.json", '[{"a": "one\ntwo\tthree"}, {"a": "b"}]')
    assert values(path) == [{"a": "one\ntwo\tthree"}, {"a": "b"}]


def test_line_separators_inside_a_text_do_not_end_a_line(tmp_path: Path) -> None:
    pair = {"question": "one\u2028two\x85three", "answer": "yes"}
    path = write(tmp_path / "x.jsonl", "\n".join(json.dumps(pair, ensure_ascii=False) for _ in range(2)))
    assert values(path) == [pair, pair]


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize(
    ("right", "wrong"),
    [('"q3"', '"q3'), ('"q3"', '"q"3"'), ('"q3"', 'q3"'), ('"a3"\n}', '"a3"\n'), ('"a3"}', '"a3"')],
)
def test_a_quote_or_bracket_too_many_or_too_few_costs_one_entry(
    tmp_path: Path, right: str, wrong: str, indent: int | None
) -> None:
    rows = [{"question": f"q{n}", "answer": f"a{n}"} for n in range(8)]
    text = "[\n" + ",\n".join(json.dumps(row, indent=indent) for row in rows) + "\n]"
    if right not in text:
        pytest.skip("of the other indentation")
    found = items(write(tmp_path / "x.json", text.replace(right, wrong)))
    assert [item.value for item in found if not item.broken] == rows[:3] + rows[4:]
    [broken] = [item for item in found if item.broken]
    assert broken.broken.startswith("not_json: line ")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.json", "Dear reader,\nhello", r"line 1, column 1: neither JSON nor JSON Lines (Expecting value); correct"),
        ("x.json", "<!DOCTYPE html>", "it looks like a web page"),
        ("x.json", "[" * 100_000, "line 1, column 2: the file ends inside the value"),
        ("x.json", '[{"a": 1},\n', "line 2, column 1: the file ends inside a list, whose bracket is not closed"),
        ("x.json", '[\n {"a": 1},\n {"b"', "line 3, column 2: the file ends inside the value that begins here"),
        ("x.json", " \n", "is empty; remove it, or leave it out with data.exclude"),
        ("x.json", ", ,", "holds no value"),
        ("x.jsonl", "", "is empty"),
        ("x.csv", "\n", "is empty"),
        ("x.csv", "a,b\n", "has a line with the names of columns and no rows below it"),
        ("x.csv", "Is it far?,A mile or so\nWhy?,Because\n", "reads like a conversation, not like names of columns"),
        ("x.csv", "a,A\n1,2\n", "the column 'a' stands twice"),
        ("x.csv", 'a,b\nc,d\n"e,f\ng,h\n', "line 3: a quote is opened and not closed"),
        ("x.csv", '"a,b\nc",d\n', "line 1: the name of a column has a line end in it"),
        ("x.parquet", "words", "does not begin as a .parquet file does"),
        ("x.parquet", "PAR1words", "is damaged, or no parquet file"),
        ("x.json", "ARROW1\x00\x00words", "is damaged, or no arrow file"),
        ("x.json", "PK\x03\x04words", "is a zip archive; unpack it"),
        ("x.json", "SQLite format 3\x00", "is an SQLite database"),
        ("x.txt", "%PDF-1.7", "is a PDF; save its text as .txt"),
        ("x.json", "version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer, not the file itself; run"),
        ("x.json", '[{"a": "b"}]'.encode("utf-16")[:-1], "not valid UTF-16-LE (truncated data); save the"),
        ("x.dat", "words", "is of no kind that Theta reads"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_an_error_with_place_and_remedy(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    path = write(tmp_path / name, content)
    _, said = until_the_fault(path)
    assert said.startswith(str(path))
    assert message in said


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    assert "cannot be read (No such file" in until_the_fault(tmp_path / "gone.json")[1]


def test_what_stands_before_the_end_of_a_file_that_is_cut_off_is_read(tmp_path: Path) -> None:
    found, message = until_the_fault(write(tmp_path / "x.json", json.dumps([PAIR, OTHER, PAIR])[:-20]))
    assert found == [PAIR, OTHER]
    column = len(json.dumps([PAIR, OTHER])) + len(", ")
    assert f"line 1, column {column}: the file ends inside the value" in message


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


@pytest.mark.parametrize("layout", ["lines", "list", "pretty", "csv", "parquet", "arrow"])
def test_large_files_come_in_blocks_that_join_without_a_gap(tmp_path: Path, layout: str) -> None:
    random_ = random.Random(0)
    alphabet = 'abc {}[],:"\\é☃\n'
    rows = [
        {"question": "".join(random_.choices(alphabet, k=20)) * random_.randrange(100), "answer": f"{n}"}
        for n in range(6000)
    ]
    texts: dict[str, Callable[[], str | bytes]] = {
        "lines": lambda: "\n".join(map(json.dumps, rows)),
        "list": lambda: json.dumps(rows, ensure_ascii=False),
        "pretty": lambda: json.dumps(rows, indent=2),
        "csv": lambda: "question,answer\n" + "".join(f"{quoted(r['question'])},{r['answer']}\n" for r in rows),
        "parquet": lambda: as_parquet(pa.Table.from_pylist(rows)),
        "arrow": lambda: as_feather(pa.Table.from_pylist(rows)),
    }  # fmt: skip
    path = write(tmp_path / f"x.{layout if layout in ('csv', 'parquet', 'arrow') else 'json'}", texts[layout]())
    blocks = list(read(File.at(path), is_message))
    assert len(blocks) > 2
    assert max(len(pickle.dumps(block)) for block in blocks) < 3 * CHUNK_BYTES
    assert values(path) == rows
    assert numbers(path) == [str(n) for n in range(1, 6001)]


def test_many_quotes_too_few_in_a_large_file_cost_an_entry_each(tmp_path: Path) -> None:
    rows = [json.dumps({"question": f"q{n}", "answer": "a" * 2000}) for n in range(6000)]
    for n in range(100, 6000, 500):
        rows[n] = rows[n].replace(f'"q{n}"', f'"q{n}')
    found = items(write(tmp_path / "x.json", "[" + ",\n".join(rows) + "]"))
    assert len([item for item in found if not item.broken]) > 5900
    asked = re.findall(r"q\d+", " ".join(str(item.value) for item in found))
    assert sorted(asked) == sorted(f"q{n}" for n in range(6000))


def test_places_are_right_in_later_blocks(tmp_path: Path) -> None:
    rows = [json.dumps({"text": "é" * 300, "n": n}, ensure_ascii=False) for n in range(4000)]
    rows[3500] = '{"é": "x" "y"}'
    [broken] = [item for item in items(write(tmp_path / "x.json", f"[{','.join(rows)}]")) if item.broken]
    column = 1 + len(",".join(rows[:3500])) + 1 + 11
    assert broken.broken == f"not_json: line 1, column {column}: Expecting ',' delimiter"
    [broken] = [item for item in items(write(tmp_path / "x.json", "[" + ",\n".join(rows) + "]")) if item.broken]
    assert broken.broken == "not_json: line 3501, column 11: Expecting ',' delimiter"


def test_a_value_that_is_too_large_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_files, "VALUE_BYTES_AT_MOST", 1000)
    _, message = until_the_fault(write(tmp_path / "x.json", '{"a": "' + "b" * (CHUNK_BYTES + 1)))
    assert "line 1, column 1: more than 0 MB belong to the value that begins here; close its quotes" in message


def test_the_structure_of_json_does_not_depend_on_where_it_is_divided() -> None:
    random_ = random.Random(0)
    for _ in range(2000):
        text = "".join(random_.choices('"\\[]{},a', k=random_.randrange(1, 60))).encode()
        at = random_.randrange(len(text) + 1)
        divided, whole = Structure(), Structure()
        cuts = divided.cuts(text[:at])
        cuts += [at + cut for cut in divided.cuts(text[at:])]
        assert sorted(set(cuts)) == whole.cuts(text)
        assert divided == whole
        assert whole.cuts(b"") == []


def test_structure_against_a_plain_scan() -> None:
    random_ = random.Random(1)
    for _ in range(3000):
        text = "".join(random_.choices('"\\[]{},a', weights=[4, 2, 3, 3, 3, 3, 3, 3], k=random_.randrange(60)))
        structure = Structure()
        assert structure.cuts(text.encode()) == plain_cuts(text)[0]
        assert (structure.depth, structure.in_text) == plain_cuts(text)[1:]


def plain_cuts(text: str) -> tuple[list[int], int, bool]:
    """The same, character by character."""
    cuts: set[int] = set()
    depth, in_list, in_text, escaped = 0, False, False, False
    for at, character in enumerate(text):
        if escaped and character != "\\":
            escaped = False
            if character == '"':
                continue
        if character == "\\":
            escaped = not escaped
        elif character == '"':
            in_text = not in_text
        elif in_text:
            continue
        elif character in "[{":
            depth += 1
            if depth == 1:
                in_list = character == "["
                cuts |= {at, at + 1} if in_list else set()
        elif character in "]}":
            depth = max(depth - 1, 0)
            if depth == 0:
                cuts |= {at, at + 1} if in_list else {at + 1}
        elif character == "," and depth == 1 and in_list:
            cuts.add(at + 1)
    return sorted(cuts), depth, in_text
