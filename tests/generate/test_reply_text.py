"""Text that arrives token by token is the text of all tokens, and ends before a stop sequence."""

import random

import pytest

from theta.generate.reply_text import ReplyText
from theta.tokens.vocabulary import SAMPLES, Vocabulary


def pieces(vocabulary: Vocabulary, ids: list[int], *stops: str) -> list[str]:
    text = ReplyText(vocabulary, stops)
    made = [text.add(id_) for id_ in ids]
    made.append(text.end())
    assert text.released == len("".join(made))
    return made


def letters(vocabulary: Vocabulary, text: str) -> list[int]:
    """Return a token for each letter."""
    return [vocabulary.tokenizer.encode(letter).ids[0] for letter in text]


@pytest.mark.parametrize("sample", SAMPLES)
def test_the_pieces_are_the_text(vocabulary: Vocabulary, sample: str) -> None:
    ids = vocabulary.tokenizer.encode(sample).ids
    assert "".join(pieces(vocabulary, ids)) == sample
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces(vocabulary, ids))


def test_any_ids_give_the_text_of_all_of_them(vocabulary: Vocabulary) -> None:
    draw = random.Random(0)
    for _ in range(300):
        # The first 256 ids are single bytes, which seldom make whole characters.
        ids = [draw.randrange(draw.choice((256, 50_257))) for _ in range(draw.randrange(1, 50))]
        whole = vocabulary.decode(ids)
        assert "".join(pieces(vocabulary, ids)) == whole
        if whole:
            place = draw.randrange(len(whole))
            stop = whole[place : place + draw.randrange(1, 6)]
            assert "".join(pieces(vocabulary, ids, stop)) == whole[: whole.index(stop)]


def test_ids_that_come_together_give_the_same_text(vocabulary: Vocabulary) -> None:
    draw = random.Random(1)
    for _ in range(300):
        ids = [draw.randrange(draw.choice((256, 50_257))) for _ in range(50)]
        text, made, place = ReplyText(vocabulary), "", 0
        while place < len(ids):
            size = draw.randrange(1, 9)
            made += text.add(*ids[place : place + size])
            place += size
        assert made + text.end() == vocabulary.decode(ids)


def test_what_may_begin_a_stop_sequence_is_held_back(vocabulary: Vocabulary) -> None:
    ids = letters(vocabulary, "abcabx")
    assert pieces(vocabulary, ids, "abx", "zzz") == ["", "", "abc", "", "", "", ""]
    assert pieces(vocabulary, ids, "abxy") == ["", "", "abc", "", "", "", "abx"]


def test_nothing_follows_a_stop_sequence(vocabulary: Vocabulary) -> None:
    text = ReplyText(vocabulary, ["b"])
    made = [text.add(id_) for id_ in letters(vocabulary, "abc")]
    assert ([*made, text.end()], text.stopped) == (["a", "", "", ""], True)
