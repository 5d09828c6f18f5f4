"""Strict reading of params.yaml: one message names every fault of the sections that are read.

Settings are pydantic models, defined next to the code that uses them (`theta/train/settings.py`, ...).
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from theta.errors import SettingsError, reason


class Settings(BaseModel):
    """One section of params.yaml: unknown keys are refused, values cannot change after reading."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True, protected_namespaces=()
    )

    @field_validator("*", mode="before")
    @classmethod
    def _number_or_plain_text(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse booleans, which pydantic takes for the numbers 0 and 1, and texts with control characters."""
        if cls.model_fields[str(info.field_name)].annotation is bool:
            if not isinstance(value, bool):  # pydantic would take "no" and 0 for false
                raise ValueError("true or false")
            return value
        if any(isinstance(item, bool) for item in [value, *_items(value)]):
            raise ValueError("a number or text")
        if any(isinstance(text, str) and _CONTROL.search(text) for text in [value, *_items(value)]):
            raise ValueError("text without control characters")
        return value


S = TypeVar("S", bound=Settings)

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def _items(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value, *value.values()]
    return value if isinstance(value, list) else []


def read(path: Path) -> dict[str, Any]:
    """Read the whole file as plain values, by the rules of YAML 1.2.

    Raises:
        SettingsError: the file is missing, is not YAML, or is not a mapping of sections.
    """
    try:
        values = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"{path} does not exist; run this in the project's folder.") from None
    except UnicodeDecodeError as fault:
        raise SettingsError(f"{path} is not UTF-8 (byte {fault.start}); save it as UTF-8.") from None
    except MarkedYAMLError as fault:
        place = f", line {fault.problem_mark.line + 1}," if fault.problem_mark else ""
        words = " ".join(filter(None, [fault.context, fault.problem])).partition(" with value")[0]
        raise SettingsError(f"{path}{place} is not valid YAML: {words}; correct it there.") from None
    except (YAMLError, ValueError, RecursionError) as fault:  # ValueError: a date such as 2026-13-01
        raise SettingsError(f"{path} is not valid YAML: {reason(fault)}; correct it there.") from None
    if not isinstance(values, dict):
        raise SettingsError(f"{path} must hold sections (model:, data:, ...); it holds {type(values).__name__}.")
    return values


def load(path: Path, section: str, settings: type[S]) -> S:
    """Read and check one section of `path`.

    Raises:
        SettingsError: the section has faults; the message names all of them.
    """
    loaded = load_all(path, {section: settings})
    checked = loaded[section]
    assert isinstance(checked, settings)
    return checked


def load_all(path: Path, sections: Mapping[str, type[Settings]], *, whole_file: bool = False) -> dict[str, Settings]:
    """Read and check several sections of `path`; with `whole_file`, any other section is a fault too.

    Raises:
        SettingsError: a section has faults; one line names all faults of all sections.
    """
    values = read(path)
    found: list[str] = []
    loaded: dict[str, Settings] = {}
    for section, settings in sections.items():
        try:
            loaded[section] = settings.model_validate(values.get(section))
        except ValidationError as error:
            found += faults(error, settings, section)
    if whole_file:
        found += [f"unknown section '{name}'{_nearest(name, sections)}" for name in values if name not in sections]
    if found:
        raise SettingsError(f"{path}: {'; '.join(found)}.")
    return loaded


def schema(sections: Mapping[str, type[Settings]]) -> dict[str, Any]:
    """Return a JSON schema of the whole file, for editors."""
    properties = {name: settings.model_json_schema() for name, settings in sections.items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Theta's params.yaml",
        "type": "object",
        "properties": properties,
        "required": sorted(properties),
        "additionalProperties": False,
    }


def faults(error: ValidationError, settings: type[Settings], section: str = "") -> list[str]:
    """Describe every fault of some settings: the name, the value and the allowed values.

    Args:
        error: pydantic's error about the values.
        settings: the class that checked them.
        section: their section of params.yaml; empty for the parameters of a call.
    """
    # A value that may have one of several types has an error for each type, all with the same location.
    by_place: dict[Any, list[Mapping[str, Any]]] = {}
    for entry in error.errors():
        by_place.setdefault(_place(entry["loc"], settings), []).append(dict(entry))
    return [_fault(section, settings, entries) for entries in by_place.values()]


_COMPARISONS = {
    "greater_than_equal": ("ge", "at least {}"),
    "greater_than": ("gt", "above {}"),
    "less_than_equal": ("le", "at most {}"),
    "less_than": ("lt", "below {}"),
}


def _place(location: Sequence[Any], settings: type[Settings]) -> tuple[Any, ...]:
    """The key, and the position in a list or mapping; the rest only names which of several types pydantic tried."""
    field = settings.model_fields.get(str(location[0])) if location else None
    is_within = field is not None and get_origin(field.annotation) in (list, dict)
    return tuple(location[: 2 if is_within else 1])


def _fault(section: str, settings: type[Settings], entries: Sequence[Mapping[str, Any]]) -> str:
    """Describe the errors of one place."""
    entry = entries[0]
    name = ".".join(filter(None, [section, *map(str, _place(entry["loc"], settings))]))
    kind, context = entry["type"], entry.get("ctx", {})
    if kind == "missing":
        return f"{name} is missing"
    if kind == "extra_forbidden":
        what = "key" if section else "parameter"
        return f"unknown {what} {name}{_nearest(entry['loc'][-1], settings.model_fields)}"
    if kind in ("model_type", "model_attributes_type"):
        value = entry["input"]
        return f"section '{section}' " + ("is missing or empty" if value is None else f"is {value!r}, expected keys")
    if kind == "invalid_key":
        return f"{section or 'the call'} has the key {entry['input']!r}, expected text"
    allowed = allowed_range(settings, str(entry["loc"][0]))
    if kind in _COMPARISONS:
        allowed = allowed or _COMPARISONS[kind][1].format(context[_COMPARISONS[kind][0]])
    out_of_range = {each["type"] for each in entries} <= {"literal_error", "finite_number", *_COMPARISONS}
    if not (allowed and out_of_range):
        return f"{name} is {entry['input']!r}, expected {' or '.join(map(_expectation, entries))}"
    words = [str(each["ctx"]["expected"]) for each in entries if each["type"] == "literal_error"]
    return f"{name} is {entry['input']!r} but must be {', or '.join([allowed, *words])}"


def _expectation(entry: Mapping[str, Any]) -> str:
    words = str(entry["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
    return words.partition(", unable to parse")[0]


def allowed_range(settings: type[Settings], field: str) -> str:
    """Describe the allowed values of a numeric field, such as "from 0.1 to 2.0"; empty if it has no bounds."""
    bounds: dict[str, Any] = {}
    for item in _metadata(settings.model_fields.get(field)):
        bounds.update({key: getattr(item, key) for key in ("ge", "gt", "le", "lt") if hasattr(item, key)})
    if "ge" in bounds and "le" in bounds:
        return f"from {bounds['ge']} to {bounds['le']}"
    return " and ".join(words.format(bounds[key]) for key, words in _COMPARISONS.values() if key in bounds)


def _metadata(field: FieldInfo | None) -> list[Any]:
    """What limits the values of a field, also of a number that is one of several types."""
    if field is None:
        return []
    limits = [item for each in get_args(field.annotation) for item in getattr(each, "__metadata__", ())]
    return [*field.metadata, *(item for each in limits for item in getattr(each, "metadata", [each]))]


def _nearest(name: Any, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(str(name), known, n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""
