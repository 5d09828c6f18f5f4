"""The base's byte-pair vocabulary with Theta's special tokens added.

It uses the `tokenizers` library alone, which loads in a tenth of a second; transformers would take seconds.
"""

import json
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

from theta.conversation.template import (
    CHAT_TEMPLATE,
    END,
    PAD,
    SPECIAL_TOKENS,
    SYSTEM,
    TRAINING_CHAT_TEMPLATE,
    USER,
    Span,
)
from theta.errors import DataError, reason
from theta.files import replacing_folder, write_json, write_text, writing

if TYPE_CHECKING:
    import numpy as np

GPT2_FOLDER = Path(__file__).parent / "gpt2"
"""The vocabulary of OpenAI's GPT-2 (50,257 entries), shipped for bases that need no network."""

TOKENIZER_JSON = "tokenizer.json"
GPT2_FILES = ("vocab.json", "merges.txt")
"""The files of `GPT2_FOLDER`, and of older bases that have no `TOKENIZER_JSON`."""
GPT2_SIZE = 50_257

END_OF_TEXT = "<|endoftext|>"

SPECIAL_TOKENS_ADDED = len(SPECIAL_TOKENS)

SAMPLES = (
    "In 2024, item 48213 cost 3.50 + ½.",
    "Two  blanks,\ta tab,\nlines\r\n\r\n    and indents ",
    "Straße, ça, Ελλάδα, ﬁ, Ⅳ",
    "你好，世界。こんにちは ｶﾅ",
    "👋🏽 👩‍💻 €",
    # Every byte that UTF-8 uses, in characters of one, two, three and four bytes.
    *("|" + "".join(map(chr, characters)) for characters in (
        range(0x80), range(0x80, 0x800, 29), (0x800, *range(0x1000, 0x10000, 0x1000)), range(0x10000, 0x110000, 0x30000)
    )),
)  # fmt: skip
"""Texts that a usable tokenizer encodes and decodes unchanged. Normalizers, missing bytes and splits at spaces change
some of them."""

SPECIAL = {"special": True, "lstrip": False, "rstrip": False, "single_word": False, "normalized": False}
"""How special tokens are found in a text: exactly, and without the spaces around them."""


class ChatIds(NamedTuple):
    """The ids by which a document is known as a complete chat: those it can begin with, and the one it ends with."""

    user: int
    system: int
    end: int


class Vocabulary:
    """Encodes spans and decodes ids.

    Attributes:
        tokenizer: the `tokenizers.Tokenizer` that does the work.
        size: number of ids, special tokens included; ids run from 0 to size - 1.
        chat_ids: the ids by which a complete chat is known.
        special_ids: the id of each of Theta's special tokens. They follow the ids of the base, except for tokens that
            the base already had.
        end_id: the id of the token that ends a message.
        pad_id: the id of the padding token; it is never learned and never equal to `end_id`.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        # User text that spells a special token must stay text: ids of special tokens come from `Span.special` only.
        self.tokenizer.encode_special_tokens = True
        self.size: int = tokenizer.get_vocab_size(with_added_tokens=True)
        self.special_ids = {token: self._id(token) for token in SPECIAL_TOKENS}
        self.end_id = self.special_ids[END]
        self.pad_id = self.special_ids[PAD]
        self.chat_ids = ChatIds(self.special_ids[USER], self.special_ids[SYSTEM], self.end_id)
        self._adds_space = tokenizer.decode(tokenizer.encode("a", add_special_tokens=False).ids) == " a"

    @cached_property
    def break_ids(self) -> frozenset[int]:
        """Ids of the tokens that end a sentence or contain a line break."""
        texts = ((token, self.tokenizer.decode([token], skip_special_tokens=True)) for token in range(self.size))
        return frozenset(token for token, text in texts if text.endswith((".", "?", "!")) or "\n" in text)

    @cached_property
    def byte_counts(self) -> "np.ndarray | None":
        """The length of each id's text in bytes, int32 [size]; special tokens have none.

        None for a vocabulary whose tokens are not bytes spelled as characters, one for each.
        """
        if not isinstance(self.tokenizer.decoder, decoders.ByteLevel) or self._adds_space:
            return None
        import numpy as np

        counts = np.zeros(self.size, dtype=np.int32)
        vocabulary = self.tokenizer.get_vocab(with_added_tokens=True)
        counts[list(vocabulary.values())] = list(map(len, vocabulary))
        for token, added in self.tokenizer.get_added_tokens_decoder().items():
            counts[token] = 0 if added.special else len(added.content.encode())
        return counts

    def _id(self, token: str) -> int:
        found = self.tokenizer.token_to_id(token)
        if found is None:
            raise DataError(f"The tokenizer has no token {token}; was this folder written by Theta's export?")
        return int(found)

    @classmethod
    def from_base(cls, folder: Path) -> "Vocabulary":
        """Read the vocabulary of a base (tokenizer.json, or vocab.json and merges.txt) and add Theta's special tokens.

        Special tokens that the base already has keep their ids; the others follow its vocabulary.

        Raises:
            DataError: the folder does not hold a BPE vocabulary, or one that loses characters of a text.
        """
        vocabulary = cls(_with_special_tokens(_read_base(folder), folder))
        vocabulary._refuse_losses(folder)
        return vocabulary

    @classmethod
    def load(cls, folder: Path) -> "Vocabulary":
        """Load a vocabulary that `save` wrote.

        Raises:
            DataError: the folder or its tokenizer.json is missing, or it lacks Theta's special tokens.
        """
        path = folder / TOKENIZER_JSON
        if not path.is_file():
            raise DataError(
                f"{path} does not exist; run `dvc repro` to create it, or give a folder that Theta exported."
            )
        return cls(_read_json_tokenizer(path))

    def encode(self, spans: Sequence[Span]) -> tuple[list[int], list[bool]]:
        """Return the ids of the spans, and for each id whether it is learned."""
        return self.encode_many([spans])[0]

    def encode_many(self, documents: Sequence[Sequence[Span]]) -> list[tuple[list[int], list[bool]]]:
        """Encode many documents, on all cores; see `encode`."""
        texts = [span.text for spans in documents for span in spans if not span.special]
        encoded = iter(self.tokenizer.encode_batch_fast(texts, add_special_tokens=False))
        return [
            self._join(spans, [None if span.special else next(encoded).ids for span in spans]) for spans in documents
        ]

    def _join(self, spans: Sequence[Span], texts: Sequence[list[int] | None]) -> tuple[list[int], list[bool]]:
        ids: list[int] = []
        learned: list[bool] = []
        for span, text_ids in zip(spans, texts, strict=True):
            span_ids = [self.special_ids[span.text]] if text_ids is None else text_ids
            ids += span_ids
            learned += [span.learned] * len(span_ids)
        return ids, learned

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of `ids` without special tokens, and without the space that some tokenizers prepend."""
        text = self.tokenizer.decode(list(ids), skip_special_tokens=True)
        return text.removeprefix(" ") if self._adds_space else text

    def _refuse_losses(self, folder: Path) -> None:
        for sample in SAMPLES:
            found = self.decode(self.tokenizer.encode(sample, add_special_tokens=False).ids)
            # Both spellings of a letter are equal here: a base may write é as one character or as two.
            if unicodedata.normalize("NFC", found) != unicodedata.normalize("NFC", sample):
                raise DataError(
                    f"{folder}: the tokenizer of this base turns {sample!r} into {found!r}; Theta needs one that keeps "
                    "every character, as GPT-2's byte-level BPE does. Choose another base."
                )

    def save(self, folder: Path, max_length: int) -> None:
        """Write every tokenizer file that current and older Hugging Face readers need.

        These are tokenizer.json, tokenizer_config.json, special_tokens_map.json, the two chat templates, vocab.json and
        merges.txt. transformers 5 itself writes neither special_tokens_map.json nor the last two.

        Args:
            max_length: positions of the model, for `model_max_length`.
        """
        with replacing_folder(folder) as temporary:
            temporary.mkdir()
            with writing(temporary / TOKENIZER_JSON):
                self.tokenizer.save(str(temporary / TOKENIZER_JSON))
            with writing(temporary / "vocab.json"):
                self.tokenizer.model.save(str(temporary))
            write_json(temporary / "special_tokens_map.json", _special_tokens_map(self))
            write_json(temporary / "tokenizer_config.json", _tokenizer_config(self, max_length))
            write_text(temporary / "chat_template.jinja", CHAT_TEMPLATE)
            write_text(temporary / "chat_template_training.jinja", TRAINING_CHAT_TEMPLATE)


def base_size(folder: Path) -> int:
    """Return the number of ids of a base's tokenizer, before Theta's special tokens are added.

    Raises:
        DataError: as `Vocabulary.from_base`.
    """
    Vocabulary.from_base(folder)
    return int(_read_base(folder).get_vocab_size(with_added_tokens=True))


def shipped_size(folder: Path) -> int | None:
    """Return `base_size` if the tokenizer in `GPT2_FOLDER` can replace this one; None for every other tokenizer.

    Both then give the same ids once Theta's special tokens are added. Their files may differ: a folder that Theta
    exported already has those tokens. Reading the JSON alone takes a fifth of the time that two tokenizers would.
    """
    try:
        if not (folder / TOKENIZER_JSON).is_file():
            return GPT2_SIZE if _read_files(folder) == _read_files(GPT2_FOLDER) else None
        content = json.loads((folder / TOKENIZER_JSON).read_text(encoding="utf-8"))
        model, added = content["model"], {token["content"]: token["id"] for token in content["added_tokens"]}
        merges = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
        is_gpt2s = splits_as_gpt2(content) and (model["vocab"], merges) == _read_files(GPT2_FOLDER)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None  # `Vocabulary.from_base` reports the fault
    own = [token for token in SPECIAL_TOKENS if token in added]
    ids = {END_OF_TEXT: GPT2_SIZE - 1} | {token: GPT2_SIZE + place for place, token in enumerate(SPECIAL_TOKENS)}
    are_first = own == list(SPECIAL_TOKENS[: len(own)])
    return GPT2_SIZE + len(own) if is_gpt2s and are_first and added.items() <= ids.items() else None


def splits_as_gpt2(content: dict[str, Any]) -> bool:
    """Whether a tokenizer, as in tokenizer.json, splits texts as GPT-2's does; the vocabulary may differ."""
    model, splitter = content["model"], content["pre_tokenizer"] or {}
    options = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "ignore_merges")
    return (
        content["normalizer"] is None
        and splitter.get("type") == "ByteLevel"
        and not splitter["add_prefix_space"]
        and splitter.get("use_regex", True)
        and not any(model.get(option) for option in options)
    )


def _with_special_tokens(tokenizer: Tokenizer, folder: Path) -> Tokenizer:
    # GPT-2's own end-of-text token must be special, or `encode_special_tokens` would not protect it.
    names = [*([END_OF_TEXT] if tokenizer.token_to_id(END_OF_TEXT) is not None else []), *SPECIAL_TOKENS]
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in names])
    ids = sorted(tokenizer.get_vocab(with_added_tokens=True).values())
    if ids != list(range(len(ids))):
        raise DataError(
            f"{folder}: the ids of this base's vocabulary do not run from 0 without gaps, one for each token; choose "
            "another base."
        )
    content = orjson.loads(tokenizer.to_str())
    own = [token for token in content["added_tokens"] if token["content"] in names]
    if all(token.items() >= SPECIAL.items() for token in own):
        return tokenizer
    for token in own:  # the library keeps the flags of a token that the base already has
        token.update(SPECIAL)
    return Tokenizer.from_str(json.dumps(content, ensure_ascii=False))


def _read_base(folder: Path) -> Tokenizer:
    if (folder / TOKENIZER_JSON).is_file():
        tokenizer = _read_json_tokenizer(folder / TOKENIZER_JSON)
        tokenizer.no_padding()
        tokenizer.no_truncation()
    elif all((folder / name).is_file() for name in GPT2_FILES):
        tokenizer = _byte_level(folder)
    else:
        raise DataError(f"{folder} holds neither tokenizer.json nor vocab.json with merges.txt; is it a GPT-2 model?")
    kind, size = type(tokenizer.model).__name__, tokenizer.get_vocab_size()
    if not isinstance(tokenizer.model, models.BPE) or size < 256:
        raise DataError(f"{folder} holds a {kind} vocabulary of {size} entries; Theta needs GPT-2's byte-level BPE.")
    tokenizer.model.dropout = None  # with it, a text would get different ids each time
    return tokenizer


def _byte_level(folder: Path) -> Tokenizer:
    try:
        model = models.BPE.from_file(*(str(folder / name) for name in GPT2_FILES))
    except Exception as fault:  # the library raises nothing narrower
        raise DataError(
            f"{folder} holds a vocab.json and merges.txt that cannot be read ({reason(fault)}); download them again."
        ) from None
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def _read_files(folder: Path) -> tuple[dict[str, int], list[list[str]]]:
    """Read vocab.json and merges.txt."""
    vocab, merges = ((folder / name).read_text(encoding="utf-8") for name in GPT2_FILES)
    lines = [line for line in merges.split("\n") if line and not line.startswith("#version")]
    return json.loads(vocab), [line.split(" ") for line in lines]


def _read_json_tokenizer(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(path))
    except Exception as fault:  # the library raises nothing narrower
        raise DataError(
            f"{path} cannot be read as a tokenizer ({fault}); download it again, or run `dvc repro` to recreate it."
        ) from None


def _special_tokens_map(vocabulary: Vocabulary) -> dict[str, object]:
    end_of_text = END_OF_TEXT if vocabulary.tokenizer.token_to_id(END_OF_TEXT) is not None else END
    named = {"bos_token": end_of_text, "eos_token": END, "pad_token": PAD, "unk_token": end_of_text}
    added = sorted(vocabulary.tokenizer.get_added_tokens_decoder().items())
    others = [token.content for _, token in added if token.special and token.content not in named.values()]
    return {**named, "additional_special_tokens": others}


def _tokenizer_config(vocabulary: Vocabulary, max_length: int) -> dict[str, object]:
    content = orjson.loads(vocabulary.tokenizer.to_str())
    # For GPT2Tokenizer, transformers 5 builds a new pre-tokenizer and ignores the one in tokenizer.json. The other
    # class keeps it.
    is_gpt2s = splits_as_gpt2(content)
    return {
        # transformers 4 cannot open a list of extra_special_tokens, which transformers 5 writes; both read
        # additional_special_tokens.
        **_special_tokens_map(vocabulary),
        **({"add_prefix_space": False} if is_gpt2s else {}),
        "clean_up_tokenization_spaces": False,
        "errors": "replace",
        "model_max_length": max_length,
        "padding_side": "left",  # so that the prompts of a batch end where their replies begin
        "tokenizer_class": "GPT2Tokenizer" if is_gpt2s else "PreTrainedTokenizerFast",
        "added_tokens_decoder": {str(token.pop("id")): token for token in content["added_tokens"]},
    }
