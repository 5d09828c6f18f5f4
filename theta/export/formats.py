"""The exported folder in the formats of other programs, each in a folder of its own."""

from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

from theta.errors import ExportError
from theta.files import replacing_folder

Format = Literal["gguf", "ctranslate2", "onnx"]
FORMATS: tuple[Format, ...] = get_args(Format)
PACKAGES: dict[Format, tuple[str, ...]] = {
    "gguf": ("gguf",),
    "ctranslate2": ("ctranslate2",),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
}
"""What has to be installed to write and to check a format; `pip install 'theta-finetune[formats]'` installs all."""


def check_installed(name: Format) -> None:
    """Check that the packages of a format are installed, without importing them.

    Raises:
        ExportError: one of them is not.
    """
    if absent := [package for package in PACKAGES[name] if find_spec(package) is None]:
        raise ExportError(f"The format {name} needs {', '.join(absent)}; run `pip install {' '.join(absent)}`.")


def write(name: Format, model: Path, output: Path) -> None:
    """Write a model in one of `FORMATS`, completely or not at all, and compare it with the model.

    Args:
        name: the format.
        model: a folder that Theta exported.
        output: the new folder; one that this function wrote is replaced.

    Raises:
        ExportError: packages of the format are not installed, or it cannot represent this model.
        BaseModelError: the weights in `model` cannot be read.
        DataError: the tokenizer in `model` cannot be read.
        StorageError: a file cannot be written.
    """
    check_installed(name)
    from theta.export import ctranslate2, gguf, onnx
    from theta.generate.settings import read_generation_config
    from theta.model import network
    from theta.tokens.vocabulary import Vocabulary

    loaded, vocabulary, generation = network.load(model), Vocabulary.load(model), read_generation_config(model)
    with replacing_folder(output) as folder:
        match name:
            case "gguf":
                gguf.write(folder, loaded, vocabulary, generation)
            case "ctranslate2":
                ctranslate2.write(folder, model, loaded, vocabulary)
            case "onnx":
                onnx.write(folder, model, loaded, vocabulary)
