"""Fine-tune a model on new data in a copy of the project: an experiment of DVC, and a folder like a release.

What the base knew is kept by rehearsal: each epoch repeats conversations of the base (rehearsal.jsonl of its release).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from theta.bases.descriptors import REHEARSAL, parameters
from theta.bases.weight_files import SAFETENSORS
from theta.errors import ExportError, ProjectError
from theta.export.release import MODEL, RESERVED, free, model_in, numbered, of_project
from theta.files import read_json, sha256, write_text, writing
from theta.project.copies import copy_of, link, run, save_experiment
from theta.project.results import experiments
from theta.project.tools import git
from theta.settings import read
from theta.tokens.store import Store
from theta.train import automatic

PASSES = 1
"""How often a run repeats, at the least, everything that its base brings along for rehearsal. train.rehearsal_share
counts the openings and the longer wordings of the new data as well, so it is about twice."""
LEAST_SHARE, MOST_SHARE = 0.3, 20.0
"""Bounds of train.rehearsal_share. With few new questions, the old ones are most of what is learned."""

OF_OTHER_DATA: Mapping[str, Any] = {"include": [], "exclude": [], "caps": {}, "weights": {}}
"""Settings of `data` that name files or domains of the workspace's own data, without effect on new data."""


@dataclass(frozen=True, slots=True)
class Request:
    """What to fine-tune.

    Attributes:
        root: the project.
        base: as model.base: a folder, a name on the hub, or scratch:NAME.
        data: as data.path.
        output: the folder for the result, which must not exist.
        train: settings of `train` that replace those of params.yaml.
    """

    root: Path
    base: str
    data: str
    output: Path
    train: Mapping[str, Any]


def finetune(request: Request) -> str:
    """Run the pipeline in a copy of the project, and write the result to `request.output`.

    Returns:
        The name of the experiment.

    Raises:
        ExportError: the output exists, or belongs to the pipeline.
        ProjectError: the pipeline stopped, or DVC or git refuses.
        StorageError: the copy or the output cannot be written.
        KeyboardInterrupt: a signal stopped it; the next call resumes.
    """
    root = request.root
    if request.output.exists():
        raise ExportError(f"{request.output} already exists and was not changed; name another --output-dir.")
    if request.output.resolve() in [root / "models" / name for name in RESERVED]:
        raise ExportError(f"{request.output} is a folder that the pipeline writes; name another --output-dir.")
    name = _name(request)
    with copy_of(root) as copy:
        if request.data != "." and not Path(request.data).is_absolute() and (root / request.data).exists():
            link(root / request.data, copy.folder / request.data)
        params = copy.folder / "params.yaml"
        change(params, _settings(request))
        if brings_rehearsal(root / request.base):
            run(copy, "repro", "tokenize")  # from then on, the amounts of old and new data are known
            change(params, {"train": {**keeping(copy.folder), **request.train}})
        run(copy, "repro")
        save_experiment(copy, name)
        of_project(copy.folder, request.output, f"{git(root, 'rev-parse', 'HEAD')}+{name}")
        write_text(request.output / ".gitignore", "*\n")  # git must not take the weights for something to commit
    return name


def named(root: Path, path: str) -> str:
    """Return a path of the command line as params.yaml names it: relative to the project, or absolute if outside."""
    place = Path(path).expanduser().resolve()
    return place.relative_to(root).as_posix() if place.is_relative_to(root) else place.as_posix()


def release_of(root: Path) -> Path | None:
    """Return a release that holds the same weights as the project's own model; None if there is none."""
    final = root / "models" / MODEL / SAFETENSORS
    if not final.is_file():
        raise ProjectError(
            f"{final.parent} holds no model; run `dvc repro`, or name another base with --model-name, such as gpt2."
        )
    size, digest = final.stat().st_size, sha256(final)
    for weights in sorted((root / "models").glob(f"*/{MODEL}/{SAFETENSORS}"), reverse=True):
        if weights.stat().st_size == size and sha256(weights) == digest:
            return weights.parent
    return None


def base_of(root: Path, model: str) -> str:
    """Return model.base for a model of the command line: a folder, a release, or a name on the hub."""
    return named(root, str(model_in(Path(model)))) if Path(model).is_dir() else model


def change(params: Path, settings: Mapping[str, Mapping[str, Any]]) -> None:
    """Change settings in params.yaml, and leave its comments.

    Raises:
        ProjectError: a section is missing.
    """
    yaml = YAML()
    yaml.preserve_quotes, yaml.width = True, 2**16
    content = yaml.load(params)
    for section, values in settings.items():
        if not isinstance(content, dict) or not isinstance(content.get(section), dict):
            raise ProjectError(
                f"{params.name} has no section '{section}'; copy it from the params.yaml of Theta's repository."
            )
        content[section].update(values)
    with writing(params):
        yaml.dump(content, params)


def brings_rehearsal(base: Path) -> bool:
    """Return whether a base is the model of a release, which keeps beside it what it was taught."""
    return base.name == MODEL and (base.parent / REHEARSAL).is_file()


def keeping(project: Path) -> dict[str, Any]:
    """Return the settings of `train` that keep what the base knows, for a project whose data is encoded.

    The share is such that a run repeats the rehearsal `PASSES` times: 95 % of the old answers are then kept
    (docs/decisions.md). Where the epochs are `auto`, they are those of its table, or more if the base's least number of
    updates needs them; `auto` itself does not count the updates that rehearsal makes, and takes many more for few new
    questions. The base's own weights are not mixed in, as that would cost new answers.
    """
    base = read_json(project / "models/base/weights.json")
    new = Store(project / "Datasets/tokens/train.arrow").lengths
    old = Store.if_any(project / "Datasets/tokens/rehearsal.arrow")  # none with --rehearsal-share 0
    repeated = PASSES * int(old.lengths.sum()) if old else 0
    epochs = read(project / "params.yaml")["train"]["epochs"]
    if not isinstance(epochs, int):
        needed = automatic.kind_of(base, parameters(base)).least_updates * automatic.LEAST_TOKENS_PER_STEP
        epochs = min(
            max(automatic.usual_epochs(len(new)), (needed - repeated) // int(new.sum())), automatic.MOST_EPOCHS
        )
    share = repeated / (epochs * int(new.sum()))
    return {"epochs": epochs, "rehearsal_share": round(min(max(share, LEAST_SHARE), MOST_SHARE), 2), "base_share": 0.0}


def _settings(request: Request) -> dict[str, dict[str, Any]]:
    rehearsal = {"rehearsal": "auto"} if brings_rehearsal(request.root / request.base) else {}
    return {
        "model": {"base": request.base, "revision": None, **rehearsal},
        "data": {"path": request.data, **OF_OTHER_DATA},
        "train": dict(request.train),
    }


def _name(request: Request) -> str:
    """A name for the experiment that none has yet, after the folder of the result."""
    taken = experiments(request.root)
    wanted = free(request.output).name
    return next(name for name in numbered(wanted) if name not in taken)
