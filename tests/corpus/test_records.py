"""What is read from the disk a part at a time is what was written, in whatever parts."""

from pathlib import Path

import numpy as np
import pytest

from theta.corpus import records as on_disk
from theta.corpus.records import Records, Table


@pytest.fixture(params=[5, 1000])
def _small_chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts that end within the data, and parts that hold all of it."""
    monkeypatch.setattr(on_disk, "CHUNK_ROWS", request.param)
    monkeypatch.setattr(on_disk, "RECORDS_AT_ONCE", request.param)


@pytest.mark.usefixtures("_small_chunks")
@pytest.mark.parametrize("seed", range(5))
def test_rows_come_in_order_and_from_any_place(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    numbers = rng.integers(0, 1 << 60, 53, dtype=np.uint64)
    table = Table(tmp_path / "rows", [("number", np.uint64), ("double", np.uint8, 2)])
    assert list(table.chunks()) == []
    for part in np.split(numbers, [0, 7, 8, 40]):
        table.append(len(part), number=part, double=np.stack([part, part], 1).astype(np.uint8))
    table.close()
    read = [(part, rows["number"].tolist()) for part, rows in table.chunks()]
    assert [number for _, rows in read for number in rows] == numbers.tolist()
    assert all(numbers[part].tolist() == rows for part, rows in read)
    places = rng.integers(0, len(numbers), 90)
    assert table.take(places)["number"].tolist() == numbers[places].tolist()
    assert table.take(places)["double"].tolist() == [[number & 255] * 2 for number in numbers[places].tolist()]
    assert len(table.take(places[:0])) == 0


@pytest.mark.usefixtures("_small_chunks")
@pytest.mark.parametrize("seed", range(5))
def test_records_of_one_key_come_together_in_order(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    keys = rng.integers(0, 40, 60, dtype=np.uint64) << np.uint64(58)
    owners, texts = rng.integers(0, 20, 60, dtype=np.uint32), rng.permutation(60).astype(np.uint64)
    members = rng.random(20) < 0.8
    records = Records(tmp_path, "keys", partition_bits=2)
    records.append(keys[:25], owners[:25], texts[:25])
    records.append(keys[25:], owners[25:], texts[25:])
    records.close()
    found = []
    for run_owners, extra, sizes in records.runs(members):
        pairs = list(zip(run_owners.tolist(), extra.tolist(), strict=True))
        found += [pairs[end - size : end] for size, end in zip(sizes, np.cumsum(sizes), strict=True)]
    rows = sorted(row for row in zip(keys.tolist(), owners.tolist(), texts.tolist(), strict=True) if members[row[1]])
    runs = [[row[1:] for row in rows if row[0] == each] for each in sorted({row[0] for row in rows})]
    assert found == [run for run in runs if len(run) > 1]
