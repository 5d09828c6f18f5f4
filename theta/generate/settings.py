"""The `generation` section of params.yaml: how replies are sampled. Calls and commands take the same parameters."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

from pydantic import Field, ValidationError

from theta.errors import SettingsError
from theta.settings import Settings, faults

CONFIG_FILE = "generation_config.json"


class Parameters(TypedDict, total=False):
    """Parameters of one call; an absent or None value takes the model's own default."""

    max_length: int | None
    temperature: float | None
    top_p: float | None
    top_k: int | None
    repetition_penalty: float | None
    no_repeat_ngram_size: int | None


class GenerationSettings(Settings):
    """How the next token is chosen, and when a reply stops."""

    max_length: int = Field(default=256, ge=1, le=1024)
    """Maximum tokens to generate."""
    temperature: float = Field(default=0.8, ge=0.1, le=2.0)
    """Randomness: logits are divided by it, so lower is more predictable."""
    top_p: float = Field(default=0.9, ge=0.0, le=1.0)
    """Nucleus sampling threshold (Holtzman et al. 2020): the most likely tokens that together reach it; 0 is greedy."""
    top_k: int = Field(default=50, ge=1, le=100)
    """How many of the most likely tokens to choose from; 1 is greedy."""
    repetition_penalty: float = Field(default=1.2, ge=1.0, le=2.0)
    """The probability p of a token that is already in the reply becomes p ** penalty; 1 turns it off."""
    no_repeat_ngram_size: int = Field(default=3, ge=0, le=5)
    """No sequence of this many tokens occurs twice in a reply; 0 turns it off."""

    @classmethod
    def checked(cls, **values: Any) -> "GenerationSettings":
        """Return settings with a caller's values; those absent or None take their defaults.

        Raises:
            SettingsError: a parameter is unknown or out of its range; the error names all such, with value and range.
        """
        try:
            return cls.model_validate({name: value for name, value in values.items() if value is not None})
        except ValidationError as error:
            raise SettingsError("; ".join(faults(error, cls)) + ".") from None

    def replaced(self, **values: Any) -> "GenerationSettings":
        """Return these settings with a caller's values; None keeps the present value.

        Raises:
            SettingsError: as `checked`.
        """
        given = {name: value for name, value in values.items() if value is not None}
        return self.checked(**{**self.model_dump(), **given})

    @classmethod
    def from_generation_config(cls, config: Mapping[str, Any]) -> "GenerationSettings":
        """Return the settings of a Hugging Face generation_config.json; absent ones take their defaults.

        Raises:
            SettingsError: a value is out of its range.
        """
        own = {name: config.get(name) for name in cls.model_fields}
        return cls.checked(**{**own, "max_length": config.get("max_new_tokens")})

    def to_generation_config(self) -> dict[str, Any]:
        """Return the values for a Hugging Face generation_config.json, whose `max_length` would count the prompt too.

        transformers applies the repetition penalty and the n-gram size to the prompt as well (see
        `theta.generate.sampling.penalised`), so its replies differ a little.
        """
        values = self.model_dump()
        return {"do_sample": True, "max_new_tokens": values.pop("max_length"), **values}


def read_generation_config(folder: Path) -> GenerationSettings:
    """Return the settings that a model folder recommends; the defaults if it has no generation_config.json.

    Raises:
        SettingsError: the file is not a JSON object, or a value is out of its range.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        return GenerationSettings()
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as fault:
        raise SettingsError(f"{path} is not valid JSON ({fault}); export the model again.") from None
    if not isinstance(config, dict):
        raise SettingsError(f"{path} holds a {type(config).__name__}, expected an object; export the model again.")
    try:
        return GenerationSettings.from_generation_config(config)
    except SettingsError as fault:
        raise SettingsError(f"{path}: {fault}") from None
