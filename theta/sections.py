"""The sections of params.yaml, the settings that check them, and what must hold between sections."""

from collections.abc import Mapping
from pathlib import Path

from theta.corpus.settings import DataSettings
from theta.errors import SettingsError
from theta.evaluate.settings import EvaluateSettings
from theta.export.settings import ExportSettings
from theta.generate.settings import GenerationSettings
from theta.model.settings import ModelSettings
from theta.params import Settings, load_all
from theta.tokens.settings import TokenizerSettings
from theta.train.settings import TrainSettings

SECTIONS: Mapping[str, type[Settings]] = {
    "model": ModelSettings,
    "data": DataSettings,
    "tokenizer": TokenizerSettings,
    "train": TrainSettings,
    "generation": GenerationSettings,
    "evaluate": EvaluateSettings,
    "export": ExportSettings,
}


def load_whole(path: Path) -> dict[str, Settings]:
    """All of params.yaml, checked, also between sections.

    Raises:
        SettingsError: naming every fault.
    """
    loaded = load_all(path, SECTIONS, whole_file=True)
    tokenizer, train, evaluate = loaded["tokenizer"], loaded["train"], loaded["evaluate"]
    assert isinstance(tokenizer, TokenizerSettings)
    assert isinstance(train, TrainSettings)
    assert isinstance(evaluate, EvaluateSettings)
    longest = tokenizer.max_length
    limits = {
        "train.tokens_per_step": train.tokens_per_step,
        "train.tokens_per_microbatch": train.tokens_per_microbatch,
        "evaluate.tokens_per_microbatch": evaluate.tokens_per_microbatch,
    }
    faults = [
        f"{name} is {limit}, must be at least tokenizer.max_length, {longest}"
        for name, limit in limits.items()
        if limit < longest
    ]
    if faults:
        raise SettingsError(f"{path}: {'; '.join(faults)}.")
    return loaded
