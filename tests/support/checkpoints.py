"""Small real checkpoints, saved as the hub holds them."""

import shutil
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from theta.tokens.vocabulary import GPT2_FOLDER


def save_gpt2(folder: Path, width: int = 32, shard_size: str = "50GB") -> Path:
    """A model with random weights and the files of gpt2 on the hub, those that Theta does not read included."""
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


def save_other_tokenizer(folder: Path) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(["a stitch in time saves nine"] * 3, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
