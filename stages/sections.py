"""The sections of params.yaml, each with the settings that check it."""

from theta.corpus.settings import DataSettings
from theta.evaluate.settings import EvaluateSettings
from theta.export.settings import ExportSettings
from theta.generate.settings import GenerationSettings
from theta.model.settings import ModelSettings
from theta.params import Settings
from theta.tokens.settings import TokenizerSettings
from theta.train.settings import TrainSettings

SECTIONS: dict[str, type[Settings]] = {
    "model": ModelSettings,
    "data": DataSettings,
    "tokenizer": TokenizerSettings,
    "train": TrainSettings,
    "generation": GenerationSettings,
    "evaluate": EvaluateSettings,
    "export": ExportSettings,
}
