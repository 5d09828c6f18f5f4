"""Ids are those of the `tokenizers` library, whichever library computes them."""

import random
import sys
from collections.abc import Callable
from itertools import chain

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, pre_tokenizers

from theta.tokens import ids
from theta.tokens.ids import Encoder, pieces
from theta.tokens.vocabulary import GPT2_FOLDER, Vocabulary

PARTS = (
    *"aZ1 .'_-!?éß½٣Ⅳ你好\t\n\r\x00\x1c\x85\u00a0\u2003\u200b\u2028\ufeff\u0301\U0001d7d8\ue000\U000e0001",
    *(
        "  ",
        "   ",
        "\r\n",
        "'s",
        "'t",
        "'re",
        "'ve",
        "'m",
        "'ll",
        "'d",
        "’s",
        "👩‍💻",
        "👋🏽",
        "<|end|>",
        "<|endoftext|>",
    ),
)


@pytest.fixture(scope="module")
def encoder(vocabulary: Vocabulary) -> Encoder:
    pytest.importorskip("gigatoken")
    made = Encoder(vocabulary.tokenizer)
    assert made.fallback == ""
    return made


def reference(vocabulary: Vocabulary, text: str) -> list[int]:
    found: list[int] = vocabulary.tokenizer.encode(text, add_special_tokens=False).ids
    return found


def test_equal_on_random_mixtures(vocabulary: Vocabulary, encoder: Encoder) -> None:
    rng = random.Random(0)
    texts = ["".join(rng.choices(PARTS, k=rng.randrange(40))) for _ in range(3000)]
    for text, found in zip(texts, encoder.encode(texts), strict=True):
        assert found.tolist() == reference(vocabulary, text), text
        assert found.dtype == np.int32


@pytest.mark.slow
def test_equal_on_all_unicode_planes(vocabulary: Vocabulary, encoder: Encoder) -> None:
    """Every character between spaces, and after a digit and before a letter.

    Of the planes 4 to 13, without a character, and of 15 and 16, for private use, one block of 16 has to do.
    """
    named = chain(range(0, 0xD800, 512), range(0xE000, 0x40000, 512), range(0xE0000, 0xF0000, 512))
    others = chain(range(0x40000, 0xE0000, 0x2000), range(0xF0000, 0x110000, 0x2000))
    for block in (range(begin, begin + 512) for begin in chain(named, others)):
        characters = [chr(code) for code in block]
        texts = [between.join(characters) for between in (" ", "a1")]
        for text, found in zip(texts, encoder.encode(texts), strict=True):
            assert found.tolist() == reference(vocabulary, text), hex(block.start)


@pytest.mark.parametrize("characters", [333, 2000])
def test_pieces_have_the_ids_of_the_whole(vocabulary: Vocabulary, encoder: Encoder, characters: int) -> None:
    rng = random.Random(characters)
    words = ["a", "Zeit", "naïve", "3.50", "it's", "\n", "—", "你好。", "1,000", "_x_", "'ll"]
    for _ in range(20):
        text = " ".join(rng.choices(words, k=1000))
        cut = list(pieces(text, characters))
        assert "".join(cut) == text
        assert max(map(len, cut)) <= characters
        assert [i for found in encoder.encode(cut) for i in found] == reference(vocabulary, text)


def test_long_texts_are_encoded_in_pieces(
    vocabulary: Vocabulary, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ids, "PIECE_CHARACTERS", 1000)
    seen: list[int] = []
    monkeypatch.setattr(encoder, "_fast", Watched(encoder._fast.encode, seen))
    text = "Names become addresses. " * 200
    assert [found.tolist() for found in encoder.encode([text, "", "Hi"])] == [
        reference(vocabulary, each) for each in (text, "", "Hi")
    ]
    assert max(seen) <= 1000


class Watched:
    """Encodes, and notes the length of each text."""

    def __init__(self, encode: Callable[[str], np.ndarray], seen: list[int]) -> None:
        self._encode, self._seen = encode, seen

    def encode(self, text: str) -> np.ndarray:
        self._seen.append(len(text))
        return self._encode(text)


def test_a_text_without_a_border_is_cut_anyway() -> None:
    assert list(map(len, pieces("a" * 2500, 1000))) == [1000, 1000, 500]


def test_words_are_forgotten_before_memory_is_full(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids, "CACHE_BYTES", -(1 << 40))  # the process may have become smaller since
    before = encoder._fast
    first = encoder.encode(["Names become addresses."])[0].tolist()
    assert encoder._fast is not before
    assert encoder.encode(["Names become addresses."])[0].tolist() == first


def test_without_gigatoken_the_ids_are_the_same(vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gigatoken", None)
    slow = Encoder(vocabulary.tokenizer)
    assert slow.fallback == "gigatoken is not installed"
    text = "I'll be <|end|> there\n\n  now"
    assert slow.encode([text, ""])[0].tolist() == reference(vocabulary, text)


def with_digits(tokenizer: Tokenizer) -> None:
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )


def with_own_word(tokenizer: Tokenizer) -> None:
    tokenizer.add_tokens([AddedToken("[ticket]", special=False)])


@pytest.mark.parametrize("change", [with_digits, with_own_word])
def test_other_tokenizers_are_left_to_their_library(change: Callable[[Tokenizer], None]) -> None:
    other = Vocabulary.from_base(GPT2_FOLDER)
    usual = other.tokenizer.encode("See [ticket] 48213", add_special_tokens=False).ids
    change(other.tokenizer)
    encoder = Encoder(other.tokenizer)
    assert encoder.fallback == "this base's tokenizer is not of GPT-2's kind"
    [found] = encoder.encode(["See [ticket] 48213"])
    assert found.tolist() == reference(other, "See [ticket] 48213") != usual
