"""fetch: model.base -> models/base/{weights,tokenizer}.json, which say what the base is and copy nothing."""

from pathlib import Path

import typer

from theta.errors import SettingsError
from theta.files import write_json
from theta.model.bases import parameters, resolve
from theta.model.settings import ModelSettings
from theta.params import load, load_all
from theta.sections import SECTIONS
from theta.tokens.settings import TokenizerSettings

OUTS = (Path("models/base"), Path("models/checkpoint"), Path("models/theta_final"))
"""Folders that the stages write: no base may lie in one."""


def fetch(
    weights: Path = Path("models/base/weights.json"),
    tokenizer: Path = Path("models/base/tokenizer.json"),
    params: Path = Path("params.yaml"),
) -> None:
    """Find the base model, download it if need be, and write down what it is.

    Raises:
        SettingsError: any section of `params` is wrong; it is better known now than after hours of training.
        BaseModelError: the base cannot be had.
    """
    load_all(params, SECTIONS, whole_file=True)
    model = load(params, "model", ModelSettings)
    max_length = load(params, "tokenizer", TokenizerSettings).max_length
    base, vocabulary = resolve(model.base, model.revision, model.seed, OUTS)
    if max_length > base["positions"]:
        raise SettingsError(
            f"{params}: tokenizer.max_length is {max_length}, but model.base '{model.base}' has {base['positions']} "
            f"positions; set it to {base['positions']} or less."
        )
    write_json(weights, base)
    write_json(tokenizer, vocabulary)
    commit = f" at {base['revision'][:7]}" if base["revision"] else ""
    typer.echo(f"Base model {base['name']}{commit}: {parameters(base) / 1e6:.1f}M parameters.")
