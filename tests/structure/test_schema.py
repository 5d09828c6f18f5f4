"""The shipped params.yaml is valid, and the schema for editors matches the settings."""

import json
import re
from pathlib import Path

import pytest

from theta.errors import SettingsError
from theta.params import SECTIONS
from theta.settings import load, load_all, read, schema
from theta.train.settings import TrainSection

ROOT = Path(__file__).resolve().parents[2]


def write(folder: Path, **changes: object) -> Path:
    """Write a copy of the shipped params.yaml with changes, given as `section__key=value`."""
    values = read(ROOT / "params.yaml")
    for name, value in changes.items():
        section, key = name.split("__")
        values[section][key] = value
    path = folder / "params.yaml"
    path.write_text(json.dumps(values))
    return path


def test_the_shipped_params_are_valid() -> None:
    assert set(load_all(ROOT / "params.yaml", SECTIONS, whole_file=True)) == set(SECTIONS)


def test_the_shipped_schema_is_that_of_the_settings() -> None:
    shipped = json.loads((ROOT / "params.schema.json").read_text())
    assert shipped == schema(SECTIONS), "run `theta schema --output params.schema.json`"


def test_every_setting_is_explained() -> None:
    for section, settings in SECTIONS.items():
        for name, field in settings.model_fields.items():
            assert field.description, f"{section}.{name} has no docstring"


@pytest.mark.parametrize("written", ["1e-5", "1e-05", "1.0e-5", "0.00001", "1E-5"])
def test_a_learning_rate_in_any_spelling(tmp_path: Path, written: str) -> None:
    text = (ROOT / "params.yaml").read_text()
    changed, count = re.subn(r"(?m)^  learning_rate: .*$", f"  learning_rate: {written}", text)
    assert count == 1
    (tmp_path / "params.yaml").write_text(changed)
    assert load(tmp_path / "params.yaml", "train", TrainSection).learning_rate == 1e-5


def test_one_message_names_all_faults(tmp_path: Path) -> None:
    path = write(tmp_path, train__epoch=3, train__epochs=0, generation__temperature=3.0, data__path=7)
    with pytest.raises(SettingsError) as caught:
        load_all(path, SECTIONS)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    assert "unknown key train.epoch (did you mean 'epochs'?)" in message
    assert "train.epochs is 0 but must be from 1 to 10000, or 'auto'" in message
    assert "generation.temperature is 3.0 but must be from 0.1 to 2.0" in message
    assert "data.path is 7, expected a valid string" in message


def test_missing_keys_and_sections_are_named(tmp_path: Path) -> None:
    values = read(ROOT / "params.yaml")
    del values["train"]["seed"], values["export"]
    values["trian"] = {}
    (tmp_path / "params.yaml").write_text(json.dumps(values))
    with pytest.raises(SettingsError) as caught:
        load_all(tmp_path / "params.yaml", SECTIONS, whole_file=True)
    assert "train.seed is missing" in str(caught.value)
    assert "section 'export' is missing or empty" in str(caught.value)
    assert "unknown section 'trian' (did you mean 'train'?)" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: [1", "is not valid YAML"), ("- 1", "must hold sections"), (None, "does not exist; run this in the project")],
)
def test_an_unusable_file_is_one_clear_line(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(SettingsError, match=message):
        load(tmp_path / "params.yaml", "train", TrainSection)
