"""Programs that compute the model: they read the same ids, and write the same replies as Theta's own network."""

from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pytest

from tests.support.readers import CHATS, agreement, lacks, python_of
from theta.export import gguf
from theta.export.formats import Format

pytestmark = [pytest.mark.readers, pytest.mark.slow]

Record = Callable[[str, object], None]
Written = Callable[[Format], Path]
ROUNDING = 2e-4
"""Largest difference of a log-probability where all numbers have 32 bits; the sums are in another order."""


def hold(
    record: Record,
    name: str,
    script: str,
    opened: Path,
    wanted: list[dict[str, Any]],
    *,
    allowed: float = ROUNDING,
    replies: int = len(CHATS),
    python: Path | None = None,
) -> None:
    """Check the agreement of a reader, and record it for the table of docs/readers.md."""
    found = agreement(script, opened, wanted, python)
    record("reader", f"{name} {found.version}")
    record(
        "found",
        f"ids {found.prompts}/{len(CHATS)}, greedy replies {found.replies}/{len(CHATS)}, "
        f"log-probabilities within {found.difference:.1g}",
    )
    assert found.prompts == len(CHATS), astuple(found)
    assert found.replies >= replies, astuple(found)
    assert found.difference <= allowed, astuple(found)


def test_transformers_5(release: Path, theirs: list[dict[str, Any]], record_property: Record) -> None:
    hold(record_property, "transformers", "read_transformers.py", release, theirs)


@pytest.mark.parametrize("version", ["4.47.1", "4.57.6"])
def test_transformers_4(version: str, release: Path, theirs: list[dict[str, Any]], record_property: Record) -> None:
    record_property("reader", f"transformers {version}")
    if not (python := python_of(version)).is_file():
        pytest.skip("run `bash tests/readers/install`, which makes its environment")
    hold(record_property, "transformers", "read_transformers.py", release, theirs, python=python)


@pytest.mark.parametrize(("name", "allowed", "replies"), [(gguf.F16, 0.1, 5), (gguf.Q8_0, 1.0, 0)])
def test_llama_cpp(
    name: str, allowed: float, replies: int, written: Written, theirs: list[dict[str, Any]], record_property: Record
) -> None:
    """llama.cpp keeps the cache and a table of the activation function in 16 bits, whatever the weights.

    With weights of 8 bits, it rounds what it multiplies with them to 8 bits, too: where two tokens are about as likely,
    replies part. A wrong matrix changes log-probabilities by far more than 1.
    """
    record_property("reader", f"llama.cpp ({name})")
    if absent := lacks("xllamacpp", "gguf"):
        pytest.skip(absent)
    opened = written("gguf") / name
    hold(
        record_property, f"llama.cpp ({name}), xllamacpp", "read_llama_cpp.py", opened, theirs,
        allowed=allowed, replies=replies,
    )  # fmt: skip


def test_ctranslate2(written: Written, theirs: list[dict[str, Any]], record_property: Record) -> None:
    record_property("reader", "CTranslate2")
    if absent := lacks("ctranslate2"):
        pytest.skip(absent)
    hold(record_property, "CTranslate2", "read_ctranslate2.py", written("ctranslate2"), theirs)


def test_onnxruntime(written: Written, theirs: list[dict[str, Any]], record_property: Record) -> None:
    record_property("reader", "onnxruntime")
    if absent := lacks("onnx", "onnxscript", "onnxruntime"):
        pytest.skip(absent)
    hold(record_property, "onnxruntime", "read_onnx.py", written("onnx"), theirs)
