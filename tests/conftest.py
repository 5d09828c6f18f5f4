"""Small real objects that several tests share."""

import os
import signal
from pathlib import Path

import pytest

# Shells start background jobs with Ctrl-C ignored, and the processes that tests start would inherit that.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Set before torch is imported: the models here are tiny, and threads would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from theta.tokens.vocabulary import GPT2_FOLDER, Vocabulary

POSITIONS = 128


@pytest.fixture(scope="session")
def vocabulary() -> Vocabulary:
    """The real vocabulary: GPT-2's and the special tokens."""
    return Vocabulary.from_base(GPT2_FOLDER)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory, vocabulary: Vocabulary) -> Path:
    """A model folder as the export writes it, with random weights: 2 layers, width 32, 128 positions."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("models") / "theta_final"
    vocabulary.save(folder, max_length=POSITIONS)
    config = GPT2Config(
        vocab_size=vocabulary.size,
        n_positions=POSITIONS,
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
