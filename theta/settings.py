"""Strict reading of params.yaml: every fault of the sections asked for, in one message.

Settings are pydantic models that live beside the code that uses them (`theta/train/settings.py`, ...).
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from theta.errors import SettingsError


class Settings(BaseModel):
    """One section of params.yaml: unknown keys are refused, values cannot change after reading."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True, protected_namespaces=()
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_value(cls, value: Any) -> Any:
        """YAML's true would pass as the number 1; no setting is a truth value."""
        if isinstance(value, bool):
            raise ValueError("a number or a text")
        return value


S = TypeVar("S", bound=Settings)


class _Loader(yaml.SafeLoader):
    """YAML 1.2 numbers: PyYAML alone reads `1e-05`, which `dvc exp run -S` writes, as a string."""


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    """A mapping whose keys are written once; PyYAML alone lets the last one win without a word."""
    keys = [key.value for key, _ in node.value]
    if twice := [key for key in dict.fromkeys(keys) if keys.count(key) > 1]:
        raise yaml.YAMLError(f"'{twice[0]}' is written twice{node.start_mark}")
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
)


def read(path: Path) -> dict[str, Any]:
    """The whole file as plain values.

    Raises:
        SettingsError: the file is missing, is not YAML, or is not a mapping of sections.
    """
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # a SafeLoader
    except UnicodeDecodeError as fault:
        raise SettingsError(f"{path} is not UTF-8 (byte {fault.start}); save it as UTF-8.") from None
    except FileNotFoundError:
        raise SettingsError(f"{path} does not exist; run this in the project's folder.") from None
    except yaml.YAMLError as fault:
        raise SettingsError(f"{path} is not valid YAML: {' '.join(str(fault).split())}") from None
    if not isinstance(values, dict):
        raise SettingsError(f"{path} must hold sections (model:, data:, ...); it holds {type(values).__name__}.")
    return values


def load(path: Path, section: str, settings: type[S]) -> S:
    """One section of `path`, checked.

    Raises:
        SettingsError: naming every fault of the section.
    """
    loaded = load_all(path, {section: settings})
    checked = loaded[section]
    assert isinstance(checked, settings)
    return checked


def load_all(path: Path, sections: Mapping[str, type[Settings]], *, whole_file: bool = False) -> dict[str, Settings]:
    """Several sections of `path`, checked; with `whole_file`, a section that is not asked for is a fault too.

    Raises:
        SettingsError: naming every fault of every section, in one line.
    """
    values = read(path)
    faults: list[str] = []
    loaded: dict[str, Settings] = {}
    for section, settings in sections.items():
        try:
            loaded[section] = settings.model_validate(values.get(section))
        except ValidationError as error:
            # A value that may be of several types has an error for each: the same place, said once.
            by_place: dict[Any, list[Mapping[str, Any]]] = {}
            for entry in error.errors():
                by_place.setdefault(_place(entry["loc"]), []).append(dict(entry))
            faults += [_fault(section, settings, entries) for entries in by_place.values()]
    if whole_file:
        faults += [f"unknown section '{name}'{_nearest(name, sections)}" for name in values if name not in sections]
    if faults:
        raise SettingsError(f"{path}: {'; '.join(faults)}.")
    return loaded


def schema(sections: Mapping[str, type[Settings]]) -> dict[str, Any]:
    """A JSON schema of the whole file, for editors."""
    properties = {name: settings.model_json_schema() for name, settings in sections.items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Theta's params.yaml",
        "type": "object",
        "properties": properties,
        "required": sorted(properties),
        "additionalProperties": False,
    }


_COMPARISONS = {
    "greater_than_equal": ("ge", "at least {}"),
    "greater_than": ("gt", "above {}"),
    "less_than_equal": ("le", "at most {}"),
    "less_than": ("lt", "below {}"),
}


def _place(location: Sequence[Any]) -> tuple[Any, ...]:
    """The key, and the position in a list; what follows only tells which of several types pydantic tried."""
    return tuple(location[:2] if len(location) > 1 and isinstance(location[1], int) else location[:1])


def _fault(section: str, settings: type[Settings], entries: Sequence[Mapping[str, Any]]) -> str:
    """The errors of one place as words: key, value, what is allowed."""
    entry = entries[0]
    name = ".".join([section, *map(str, _place(entry["loc"]))])
    if len(entries) > 1:
        return f"{name} is {entry['input']!r}, expected {' or '.join(map(_expectation, entries))}"
    kind, context = entry["type"], entry.get("ctx", {})
    if kind == "missing":
        return f"{name} is missing"
    if kind == "extra_forbidden":
        return f"unknown key {name}{_nearest(str(entry['loc'][-1]), settings.model_fields)}"
    if kind in ("model_type", "model_attributes_type"):
        return f"section '{section}' is missing or empty"
    if kind in _COMPARISONS:
        allowed = allowed_range(settings, str(entry["loc"][0])) or _COMPARISONS[kind][1].format(
            context[_COMPARISONS[kind][0]]
        )
        return f"{name} is {entry['input']!r}, allowed is {allowed}"
    return f"{name} is {entry['input']!r}, expected {_expectation(entry)}"


def _expectation(entry: Mapping[str, Any]) -> str:
    return str(entry["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")


def allowed_range(settings: type[Settings], field: str) -> str:
    """The allowed values of a numeric field in words, such as "0.1 to 2.0"; empty when it has no bounds."""
    bounds = {}
    for item in settings.model_fields[field].metadata if field in settings.model_fields else ():
        bounds.update({key: getattr(item, key) for key in ("ge", "gt", "le", "lt") if hasattr(item, key)})
    if "ge" in bounds and "le" in bounds:
        return f"{bounds['ge']} to {bounds['le']}"
    return " and ".join(words.format(bounds[key]) for key, words in _COMPARISONS.values() if key in bounds)


def _nearest(name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""
