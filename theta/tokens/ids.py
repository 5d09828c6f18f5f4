"""Texts to ids, with gigatoken where it gives exactly the ids of the `tokenizers` library, else with that library.

gigatoken (https://github.com/marcelroed/gigatoken) implements the same byte-pair encoding and remembers the ids of
every word. It is used for tokenizers that split texts as GPT-2's does and add no words of their own to the vocabulary.
Its ids are compared on `HARD_TEXTS` whenever it is loaded; docs/decisions.md has the larger comparison and the speed.
"""

import re
from collections.abc import Iterator, Sequence

import numpy as np
import orjson
import psutil
from tokenizers import Tokenizer

from theta.errors import reason
from theta.tokens.vocabulary import SAMPLES, splits_as_gpt2

PIECE_CHARACTERS = 1_000_000
"""Longer texts are encoded in pieces. Both libraries need more than linear time for a word as long as a book."""

CACHE_BYTES = 64 << 20
"""gigatoken's memory of words has no limit, so it is loaded again when the process has grown by so much."""

HARD_TEXTS = (
    *SAMPLES,
    "I'll they've we're you'd I'm it's don't 'S 'LL ’s ''s 'st",
    " a  b   c\t d \t e\n f\n\n  g \r\n h   \n",
    "x1 22 333½ ٣Ⅳ 𝟘 a1b2 _x_ --- ...!? ?!. ‘quoted’",
    "<|end|><|endoftext|> <|user|>\u00a0\u2003\u200b\u2028\u0085\x00\x1c\ufeff",
    "e\u0301 n\u0303 각 ा \u0e33 ſ K \ue000 \U000e0001 👩‍💻👋🏽",
    "    def f(x):\n        return {'a': [1, 2], \"b\": x ** 2}  # comment\n",
    "a" * 300 + " " * 300 + "." * 300 + "\n" * 300,
)
"""Texts whose ids the two libraries must agree on: contractions, every kind of white space, digits and marks of other
scripts, spelled special tokens, code, long runs."""

# GPT-2 splits a text wherever a letter or digit is followed by one of these, whatever stands around them.
_BORDER = re.compile(r"[^\W_](?=[\s.,;:!?。，、！？])")


class Encoder:
    """Encodes texts as `tokenizer` does; texts never become special tokens.

    Attributes:
        fallback: why gigatoken is not used; empty if it is.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        content = orjson.loads(tokenizer.to_str())
        self._splits_as_gpt2 = splits_as_gpt2(content) and all(token["special"] for token in content["added_tokens"])
        # Without the special tokens, a text that spells one stays text.
        self._json = orjson.dumps({**content, "added_tokens": [], "post_processor": None}).decode()
        self.fallback = self._load() if self._splits_as_gpt2 else "this base's tokenizer is not of GPT-2's kind"

    def _load(self) -> str:
        """Load gigatoken; return why it cannot be used."""
        try:
            import gigatoken

            self._fast = gigatoken.Tokenizer.from_json(self._json)
            differs = next((text for text in HARD_TEXTS if self._fast.encode(text).tolist() != self._slow(text)), None)
        except ImportError:
            return "gigatoken is not installed"
        except Exception as fault:  # whatever its Rust code raises about a vocabulary
            return f"gigatoken cannot read this tokenizer ({reason(fault)})"
        self._loaded_at_bytes = psutil.Process().memory_info().rss
        return "" if differs is None else f"gigatoken gives other ids for {differs!r}"

    def _slow(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Return the ids of each text, int32 [tokens]."""
        if any(len(text) > PIECE_CHARACTERS for text in texts) and self._splits_as_gpt2:
            return [np.concatenate(self._encode(list(pieces(text, PIECE_CHARACTERS)) or [""])) for text in texts]
        return self._encode(texts)

    def _encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        if self.fallback:
            encoded = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
            return [np.array(each.ids, dtype=np.int32) for each in encoded]
        ids = [self._fast.encode(text).view(np.int32) for text in texts]
        if psutil.Process().memory_info().rss > self._loaded_at_bytes + CACHE_BYTES:
            self._load()
        return ids


def pieces(text: str, characters: int) -> Iterator[str]:
    """Yield consecutive pieces of at most so many characters, whose ids together are those of the whole text.

    A piece ends where GPT-2 splits the text anyway. Only where there is no such place in the last tenth of a piece, as
    in a million letters without a space, may an id differ at its end.
    """
    begin = 0
    while len(text) - begin > characters:
        end = begin + characters
        borders = [found.end() for found in _BORDER.finditer(text, end - characters // 10, end)]
        end = borders[-1] if borders else end
        yield text[begin:end]
        begin = end
    if begin < len(text):
        yield text[begin:]
