"""Small real checkpoints in the form of the hub."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from theta.tokens.vocabulary import GPT2_FOLDER, Vocabulary


def save_gpt2(folder: Path, width: int = 32, shard_size: str = "50GB") -> Path:
    """Write a model with random weights and the files of gpt2 on the hub, including those that Theta does not read."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(width)
    model = GPT2LMHeadModel(GPT2Config(n_layer=2, n_head=2, n_embd=width))
    model.save_pretrained(folder, max_shard_size=shard_size)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    tokenizer = Tokenizer(models.BPE.from_file(str(GPT2_FOLDER / "vocab.json"), str(GPT2_FOLDER / "merges.txt")))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(GPT2_FOLDER / name, folder)
    (folder / "tf_model.h5").write_bytes(b"never read")
    return folder


def save_exported(folder: Path, vocabulary: Vocabulary, positions: int) -> Path:
    """Write a model with random weights and the files of the export: 2 layers, width 32."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    vocabulary.save(folder, max_length=positions)
    config = GPT2Config(
        vocab_size=vocabulary.size,
        n_positions=positions,
        n_layer=2,
        n_head=2,
        n_embd=32,
        bos_token_id=vocabulary.tokenizer.token_to_id("<|endoftext|>"),
        eos_token_id=vocabulary.end_id,
        pad_token_id=vocabulary.pad_id,
        # Larger than GPT-2's 0.02, so that such a small model prefers some tokens to others.
        initializer_range=0.2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def save_other_tokenizer(folder: Path) -> None:
    byte_level().save(str(folder / "tokenizer.json"))


def byte_level(
    splitter: pre_tokenizers.PreTokenizer | None = None,
    normalizer: normalizers.Normalizer | None = None,
    special: Sequence[Any] = (),
) -> Tokenizer:
    """A byte-level BPE of 270 tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = splitter or pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=270, initial_alphabet=alphabet, special_tokens=list(special), show_progress=False
    )
    tokenizer.train_from_iterator(["a stitch in time 12 12 123 123 saves nine Saves Nine"] * 3, trainer)
    if normalizer:
        tokenizer.normalizer = normalizer
    return tokenizer


def save_base(folder: Path, tokenizer: Tokenizer, rows: int | None = None, **config: Any) -> Path:
    """A model of 2 layers, width 16, with a tokenizer; `rows` of its embedding, by default one for each token."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    rows = rows or tokenizer.get_vocab_size(with_added_tokens=True)
    sizes = {"n_layer": 2, "n_head": 2, "n_embd": 16, "n_positions": 256, "vocab_size": rows}
    GPT2LMHeadModel(GPT2Config(**{**sizes, **config})).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder
