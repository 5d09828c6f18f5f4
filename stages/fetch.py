"""fetch: model.base -> models/base/{weights,tokenizer}.json, which say what the base is, and rehearsal.jsonl.

Nothing is copied but the conversations that a local base brings along for rehearsal; the file is empty without them.
"""

from pathlib import Path

import typer

from theta.bases.descriptors import parameters, rehearsal, resolve
from theta.corpus.readers import find
from theta.errors import SettingsError
from theta.files import native, replacing_file, write_json
from theta.params import load_whole
from theta.train.settings import check_options

OUTS = (Path("models/base"), Path("models/checkpoint"), Path("models/theta_final"))
"""Folders that the stages write: no base may lie in one."""


HIGH_LEARNING_RATE = 1e-3
"""Above this a pretrained GPT-2 unlearns its language within a few steps."""


def fetch(
    weights: Path = Path("models/base/weights.json"),
    tokenizer: Path = Path("models/base/tokenizer.json"),
    rehearsed: Path = Path("models/base/rehearsal.jsonl"),
    params: Path = Path("params.yaml"),
) -> None:
    """Find the base model, download it if need be, and write down what it is.

    Raises:
        SettingsError: any section of `params` is wrong. DVC removes the outs of a stage before it runs, so a fault
            that only a later stage finds costs the results of the last run.
        DataError: data.path holds no conversations.
        BaseModelError: the base cannot be had.
    """
    sections = load_whole(params)
    model, max_length, learning_rate = sections.model, sections.tokenizer.max_length, sections.train.learning_rate
    find(native(sections.data.path), sections.data.include)
    base, vocabulary = resolve(model.base, model.revision, model.seed, OUTS)
    if max_length > base["positions"]:
        raise SettingsError(
            f"{params}: tokenizer.max_length is {max_length}, but model.base '{model.base}' has {base['positions']} "
            f"positions; set it to {base['positions']} or less."
        )
    check_options(sections.train, base["layers"])
    write_json(weights, base)
    write_json(tokenizer, vocabulary)
    with replacing_file(rehearsed) as temporary:
        temporary.write_bytes(rehearsal(base) or b"\n")  # DVC warns of empty files
    commit = f" at {base['revision'][:7]}" if base["revision"] else ""
    if base["kind"] != "scratch" and learning_rate > HIGH_LEARNING_RATE:
        typer.echo(
            f"Warning: train.learning_rate {learning_rate:g} suits a new model; a pretrained base forgets what it "
            "knows, 5e-5 is usual.",
            err=True,
        )
    typer.echo(f"Base model {base['name']}{commit}: {parameters(base) / 1e6:.1f}M parameters.")
