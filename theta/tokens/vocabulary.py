"""The base's byte-pair vocabulary with Theta's special tokens added.

Works on the `tokenizers` library alone: loading takes a tenth of a second, transformers would take seconds.
"""

import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

from theta.conversation.template import CHAT_TEMPLATE, END, PAD, SPECIAL_TOKENS, Span
from theta.errors import DataError
from theta.files import replacing_folder, write_json, write_text, writing

GPT2_FOLDER = Path(__file__).parent / "gpt2"
"""The vocabulary of OpenAI's GPT-2 (50,257 entries), shipped for bases that need no network."""

END_OF_TEXT = "<|endoftext|>"

SPECIAL_TOKENS_ADDED = len(SPECIAL_TOKENS)


class Vocabulary:
    """Encodes spans, decodes ids.

    Attributes:
        tokenizer: the `tokenizers.Tokenizer` below it.
        size: number of ids, special tokens included.
        end_id: id of the token that ends a message.
        pad_id: id of the padding token; it is never learned and never equal to `end_id`.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        # User text that spells a special token must stay text: ids of special tokens come from `Span.special` only.
        self.tokenizer.encode_special_tokens = True
        self.size: int = tokenizer.get_vocab_size(with_added_tokens=True)
        self.special_ids = {token: self._id(token) for token in SPECIAL_TOKENS}
        self.end_id = self.special_ids[END]
        self.pad_id = self.special_ids[PAD]

    @cached_property
    def break_ids(self) -> frozenset[int]:
        """Ids of the tokens that end a sentence or hold the end of a line."""
        texts = ((token, self.tokenizer.decode([token], skip_special_tokens=True)) for token in range(self.size))
        return frozenset(token for token, text in texts if text.endswith((".", "?", "!")) or "\n" in text)

    def _id(self, token: str) -> int:
        found = self.tokenizer.token_to_id(token)
        if found is None:
            raise DataError(f"The tokenizer has no token {token}; was this folder written by Theta's export?")
        return int(found)

    @classmethod
    def from_base(cls, folder: Path) -> "Vocabulary":
        """The vocabulary of a base folder (tokenizer.json, or vocab.json and merges.txt), special tokens appended.

        Raises:
            DataError: the folder holds no byte-level BPE vocabulary of GPT-2's kind.
        """
        tokenizer = _read_base(folder)
        # GPT-2's own end of text must be special, or `encode_special_tokens` would not protect it.
        specials = [END_OF_TEXT] if tokenizer.token_to_id(END_OF_TEXT) is not None else []
        tokenizer.add_special_tokens([AddedToken(token, special=True) for token in (*specials, *SPECIAL_TOKENS)])
        return cls(tokenizer)

    @classmethod
    def load(cls, folder: Path) -> "Vocabulary":
        """A vocabulary that `save` wrote.

        Raises:
            DataError: the folder or its tokenizer.json is missing, or it has no special tokens of Theta.
        """
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise DataError(f"{path} does not exist; `dvc repro` makes it, or give a folder that Theta exported.")
        return cls(_read_json_tokenizer(path))

    def encode(self, spans: Sequence[Span]) -> tuple[list[int], list[bool]]:
        """Ids of the spans, and for each id whether it is learned."""
        return self.encode_many([spans])[0]

    def encode_many(self, documents: Sequence[Sequence[Span]]) -> list[tuple[list[int], list[bool]]]:
        """`encode` for many documents, on all cores."""
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
        """The text of `ids`; special tokens are left out."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=True)

    def save(self, folder: Path, max_length: int) -> None:
        """Write every tokenizer file that Hugging Face readers of today and of yesterday look for.

        tokenizer.json, tokenizer_config.json, special_tokens_map.json, chat_template.jinja, and the
        vocab.json and merges.txt of the base (transformers 5 no longer writes the last three).

        Args:
            max_length: positions of the model, for `model_max_length`.
        """
        with replacing_folder(folder) as temporary:
            temporary.mkdir()
            with writing(temporary / "tokenizer.json"):
                self.tokenizer.save(str(temporary / "tokenizer.json"))
            with writing(temporary / "vocab.json"):
                self.tokenizer.model.save(str(temporary))
            write_json(temporary / "special_tokens_map.json", _special_tokens_map(self))
            write_json(temporary / "tokenizer_config.json", _tokenizer_config(self, max_length))
            write_text(temporary / "chat_template.jinja", CHAT_TEMPLATE)


def _read_base(folder: Path) -> Tokenizer:
    if (folder / "tokenizer.json").is_file():
        tokenizer = _read_json_tokenizer(folder / "tokenizer.json")
        tokenizer.no_padding()
        tokenizer.no_truncation()
    elif (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        model = models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
        tokenizer = Tokenizer(model)
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    else:
        raise DataError(f"{folder} holds neither tokenizer.json nor vocab.json with merges.txt; is it a GPT-2 model?")
    if not isinstance(tokenizer.model, models.BPE) or tokenizer.get_vocab_size() < 256:
        raise DataError(
            f"{folder} holds a {type(tokenizer.model).__name__} vocabulary of "
            f"{tokenizer.get_vocab_size()} entries; Theta needs GPT-2's byte-level BPE."
        )
    return tokenizer


def _read_json_tokenizer(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(path))
    except Exception as fault:  # the library raises nothing narrower
        raise DataError(
            f"{path} cannot be read as a tokenizer ({fault}); fetch it, or run `dvc repro`, again."
        ) from None


def _special_tokens_map(vocabulary: Vocabulary) -> dict[str, object]:
    end_of_text = END_OF_TEXT if vocabulary.tokenizer.token_to_id(END_OF_TEXT) is not None else END
    return {
        "bos_token": end_of_text,
        "eos_token": END,
        "pad_token": PAD,
        "unk_token": end_of_text,
        "additional_special_tokens": [token for token in SPECIAL_TOKENS if token not in (END, PAD)],
    }


def _tokenizer_config(vocabulary: Vocabulary, max_length: int) -> dict[str, object]:
    special = _special_tokens_map(vocabulary)
    # Readers of transformers 4 know the first name, those of transformers 5 the second.
    extra = special.pop("additional_special_tokens")
    added = json.loads(vocabulary.tokenizer.to_str())["added_tokens"]
    return {
        **special,
        "extra_special_tokens": extra,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "errors": "replace",
        "model_max_length": max_length,
        "tokenizer_class": "GPT2Tokenizer",
        "added_tokens_decoder": {str(token.pop("id")): token for token in added},
    }
