import json
from pathlib import Path

import pytest

from theta import settings
from theta.errors import SettingsError
from theta.generate.settings import GenerationSettings, read_generation_config

DEFAULTS = {
    "max_length": 256,
    "temperature": 0.8,
    "top_p": 0.9,
    "top_k": 50,
    "repetition_penalty": 1.2,
    "no_repeat_ngram_size": 3,
}
RANGES = {
    "max_length": (1, 1024),
    "temperature": (0.1, 2.0),
    "top_p": (0.0, 1.0),
    "top_k": (1, 100),
    "repetition_penalty": (1.0, 2.0),
    "no_repeat_ngram_size": (0, 5),
}


def test_the_defaults_are_those_promised() -> None:
    assert GenerationSettings().model_dump() == DEFAULTS


@pytest.mark.parametrize("name", RANGES)
def test_a_range_includes_its_ends_and_nothing_beyond(name: str) -> None:
    low, high = RANGES[name]
    for value in (low, high):
        assert getattr(GenerationSettings.checked(**{name: value}), name) == value
    step = 1 if isinstance(low, int) else 0.001
    for value in (low - step, high + step):
        with pytest.raises(SettingsError) as caught:
            GenerationSettings.checked(**{name: value})
        assert str(caught.value) == f"{name} is {value!r} but must be from {low} to {high}."


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_are_out_of_range(value: float) -> None:
    with pytest.raises(SettingsError, match=r"^temperature is (nan|inf) but must be from 0.1 to 2.0\.$"):
        GenerationSettings.checked(temperature=value)


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        GenerationSettings.checked(temperature=3.0, top_k="many", max_lenght=5)
    message = str(caught.value)
    assert "temperature is 3.0 but must be from 0.1 to 2.0" in message
    assert "top_k is 'many', expected a valid integer" in message
    assert "unknown parameter max_lenght (did you mean 'max_length'?)" in message
    assert "\n" not in message


def test_none_keeps_the_present_value() -> None:
    settings = GenerationSettings(temperature=0.5)
    assert settings.replaced(temperature=None, top_k=7) == GenerationSettings(temperature=0.5, top_k=7)


def test_params_yaml_reads_the_same_table(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("generation:\n  temperature: 0.5\n  top_k: 0\n")
    with pytest.raises(SettingsError, match=r"generation\.top_k is 0 but must be from 1 to 100"):
        settings.load(path, "generation", GenerationSettings)


def test_generation_config_goes_there_and_back() -> None:
    settings = GenerationSettings(max_length=40, temperature=1.5, top_p=0.0, no_repeat_ngram_size=0)
    config = settings.to_generation_config()
    assert config["max_new_tokens"] == 40
    assert config["do_sample"] is True
    assert "max_length" not in config
    assert GenerationSettings.from_generation_config(config) == settings


def test_transformers_accepts_the_generation_config(tmp_path: Path) -> None:
    from transformers import GenerationConfig

    settings = GenerationSettings(max_length=40, top_p=0.5)
    GenerationConfig(**settings.to_generation_config(), eos_token_id=3, pad_token_id=4).save_pretrained(tmp_path)
    assert read_generation_config(tmp_path) == settings


def test_a_folder_without_generation_config_has_the_defaults(tmp_path: Path) -> None:
    assert read_generation_config(tmp_path) == GenerationSettings()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (json.dumps({"temperature": 9}), "temperature is 9 but must be from 0.1 to 2.0."),
        ("{", "is not valid JSON"),
        ("[]", "holds a list, expected an object"),
    ],
)
def test_a_bad_generation_config_is_named(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "generation_config.json"
    path.write_text(content)
    with pytest.raises(SettingsError) as caught:
        read_generation_config(tmp_path)
    assert str(caught.value).startswith(str(path))
    assert words in str(caught.value)
