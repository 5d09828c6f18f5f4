"""The sections of params.yaml, the settings that check them, and the checks across sections."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from theta.bases.settings import ModelSettings
from theta.corpus.settings import DataSettings
from theta.errors import SettingsError
from theta.evaluate.settings import EvaluateSettings
from theta.export.settings import ExportSettings
from theta.generate.settings import GenerationSettings
from theta.machine.settings import MachineSettings
from theta.settings import Settings, load_all
from theta.tokens.settings import TokenizerSettings
from theta.train.settings import TrainSection


@dataclass(frozen=True, slots=True)
class Sections:
    """All of params.yaml, with a field for each section."""

    model: ModelSettings
    data: DataSettings
    tokenizer: TokenizerSettings
    train: TrainSection
    generation: GenerationSettings
    evaluate: EvaluateSettings
    export: ExportSettings
    machine: MachineSettings


SECTIONS: Mapping[str, type[Settings]] = get_type_hints(Sections)


def load_whole(path: Path) -> Sections:
    """Read and check all of params.yaml, across sections too.

    Raises:
        SettingsError: the file has faults; the message names all of them.
    """
    loaded: dict[str, Any] = dict(load_all(path, SECTIONS, whole_file=True))
    sections = Sections(**loaded)
    longest = sections.tokenizer.max_length
    limits = {
        "train.tokens_per_step": sections.train.tokens_per_step,
        "machine.tokens_per_microbatch": sections.machine.tokens_per_microbatch,
    }
    faults = [
        f"{name} is {limit}, must be at least tokenizer.max_length, {longest}"
        for name, limit in limits.items()
        if isinstance(limit, int) and limit < longest
    ]
    train = sections.train
    if sections.data.validation_fraction == 0 and (train.keep == "best" or train.early_stopping_patience):
        name = "train.keep is best" if train.keep == "best" else "train.early_stopping_patience is above 0"
        faults.append(f"{name}, but data.validation_fraction is 0: set keep to auto and patience to 0, or raise it")
    if faults:
        raise SettingsError(f"{path}: {'; '.join(faults)}.")
    return sections
