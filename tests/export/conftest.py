from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import GPT2LMHeadModel

from tests.support.tiny import GENERATION, save_checkpoint
from theta.export import bundle
from theta.generate.settings import GenerationSettings
from theta.model import network
from theta.tokens.vocabulary import Vocabulary


@pytest.fixture(scope="session")
def checkpoint_model(tmp_path_factory: pytest.TempPathFactory, vocabulary: Vocabulary) -> GPT2LMHeadModel:
    """The checkpoint of `tiny`, loaded."""
    folder = tmp_path_factory.mktemp("checkpoint") / "checkpoint"
    save_checkpoint(folder, vocabulary)
    return network.load(folder)


@pytest.fixture
def save_bundle(tmp_path: Path, checkpoint_model: GPT2LMHeadModel, vocabulary: Vocabulary) -> Callable[..., Path]:
    """A function that writes a new exported folder."""

    def save(name: str = "theta_final", dtype: torch.dtype = torch.float32) -> Path:
        folder = tmp_path / name
        settings = GenerationSettings(**GENERATION)
        bundle.write(folder, checkpoint_model, vocabulary, settings, dtype=dtype, card="# card\n")
        return folder

    return save
