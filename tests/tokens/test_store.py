"""The store returns what was written, has stable bytes, and opens without Theta."""

from pathlib import Path

import numpy as np
import pytest

from theta.errors import DataError
from theta.files import sha256
from theta.tokens.store import IGNORED, Document, Store, write

DOCUMENTS = [
    Document([5, 6, 7], [False, True, True], "linux", "a.json#1", 4),
    Document([70000, 1, 2, 3], [False, False, True, True], "git", "a.json#2", 9),
]


def test_round_trip(tmp_path: Path) -> None:
    write(tmp_path / "train.arrow", DOCUMENTS)
    store = Store(tmp_path / "train.arrow")
    assert len(store) == 2
    ids, labels = store[1]
    assert ids.tolist() == [70000, 1, 2, 3]
    assert labels.tolist() == [IGNORED, IGNORED, 2, 3]
    assert store.lengths.tolist() == [3, 4]
    assert store.learned_counts.tolist() == [2, 2]
    assert (list(store.domains), list(store.sources)) == (["linux", "git"], ["a.json#1", "a.json#2"])
    assert store.learned_bytes.tolist() == [4, 9]


@pytest.mark.parametrize("others", [0, 1])
def test_documents_for_rehearsal_follow_those_of_the_split(tmp_path: Path, others: int) -> None:
    write(tmp_path / "train.arrow", DOCUMENTS)
    write(tmp_path / "rehearsal.arrow", DOCUMENTS[:others])
    store = Store(tmp_path / "train.arrow", tmp_path / "rehearsal.arrow")
    assert (len(store), store.split_size) == (2 + others, 2)
    assert store.lengths.tolist() == [3, 4, 3][: 2 + others]
    assert store.learned_counts.tolist() == [2, 2, 2][: 2 + others]
    ids, labels = store[1 + others]
    assert ids.tolist() == DOCUMENTS[1 - others].ids
    assert labels.tolist()[-2:] == DOCUMENTS[1 - others].ids[-2:]


def test_a_learned_first_token_is_not_counted(tmp_path: Path) -> None:
    write(tmp_path / "x.arrow", [Document([1, 2], [True, True], "d", "s", 1)])
    assert Store(tmp_path / "x.arrow").learned_counts.tolist() == [1]


def test_same_documents_give_the_same_bytes(tmp_path: Path) -> None:
    write(tmp_path / "a.arrow", DOCUMENTS)
    write(tmp_path / "b.arrow", iter(DOCUMENTS))
    assert sha256(tmp_path / "a.arrow") == sha256(tmp_path / "b.arrow")


@pytest.mark.slow
def test_pandas_and_datasets_open_it(tmp_path: Path) -> None:
    datasets, pandas = pytest.importorskip("datasets"), pytest.importorskip("pandas")
    write(tmp_path / "train.arrow", DOCUMENTS)
    frame = pandas.read_feather(tmp_path / "train.arrow")
    assert frame.input_ids[0].tolist() == [5, 6, 7]
    loaded = datasets.load_dataset(
        "arrow", data_files=str(tmp_path / "train.arrow"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert np.array_equal(loaded[0]["labels"], [IGNORED, 6, 7])


def test_missing_and_empty_files_are_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train\.arrow does not exist; run `dvc repro tokenize` to create it"):
        Store(tmp_path / "train.arrow")
    write(tmp_path / "train.arrow", [])
    write(tmp_path / "rehearsal.arrow", DOCUMENTS)
    with pytest.raises(DataError, match=r"train\.arrow holds no documents"):
        Store(tmp_path / "train.arrow", tmp_path / "rehearsal.arrow")


@pytest.mark.parametrize("kept", [0, 10, 300, -1])
def test_half_a_file_is_one_clear_line(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "train.arrow"
    write(path, DOCUMENTS)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"train\.arrow is damaged \(.+\); run `dvc repro tokenize` to recreate it\.$"):
        Store(path)


def test_a_table_of_something_else_is_one_clear_line(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pandas.DataFrame({"a": [1]}).to_feather(tmp_path / "train.arrow")
    with pytest.raises(DataError, match=r"train\.arrow is damaged \(its columns are not those of documents\)"):
        Store(tmp_path / "train.arrow")


def test_no_damage_reads_memory_outside_the_file(tmp_path: Path) -> None:
    """After flipping any of 300 bytes, the file is refused or every document can be read."""
    path = tmp_path / "train.arrow"
    write(path, DOCUMENTS)
    whole = path.read_bytes()
    refused = 0
    for place in range(0, len(whole), len(whole) // 300):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            store = Store(path)
        except DataError:
            refused += 1
        else:
            assert [len(store[index][0]) for index in range(len(store))] == store.lengths.tolist()
    assert refused
