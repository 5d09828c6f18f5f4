"""Formats of other programs, as far as no such program is needed; tests/readers opens them with the real ones."""

import resource
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFReader, TokenType
from tokenizers import Tokenizer, pre_tokenizers
from transformers import GPT2LMHeadModel
from typer.testing import CliRunner

from stages.export import export
from tests.support.tiny import GENERATION, PARAMS, save_project
from theta.cli.main import app
from theta.conversation.template import CHAT_TEMPLATE
from theta.errors import ExportError, StorageError
from theta.export import bundle, formats, gguf
from theta.files import sha256, write_json
from theta.generate.settings import GenerationSettings
from theta.tokens.vocabulary import Vocabulary

pytestmark = pytest.mark.slow


def written(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): sha256(path) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def exported(
    checkpoint_model: GPT2LMHeadModel, vocabulary: Vocabulary, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """An exported model, with the folder gguf beside it that `theta export` writes."""
    folder = tmp_path_factory.mktemp("exported") / "theta_final"
    settings = GenerationSettings(**GENERATION)
    bundle.write(folder, checkpoint_model, vocabulary, settings, dtype=torch.float32, card="# card\n")
    done = CliRunner().invoke(app, ["export", "gguf", "--model", str(folder)])
    assert done.exit_code == 0, done.output
    assert f"{folder.parent / 'gguf'}: " in done.stdout
    return folder


def test_gguf_holds_the_model_and_all_that_is_needed_to_talk(
    exported: Path, checkpoint_model: GPT2LMHeadModel, vocabulary: Vocabulary
) -> None:
    gguf_folder = exported.parent / "gguf"
    assert sorted(written(gguf_folder)) == ["Modelfile", "model-f16.gguf", "model-q8_0.gguf"]
    reader = GGUFReader(gguf_folder / "model-f16.gguf")
    found = {name: field.contents() for name, field in reader.fields.items()}
    expected = {
        "general.architecture": "gpt2",
        "gpt2.context_length": 1024,
        "gpt2.attention.head_count": 2,
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.eos_token_id": vocabulary.end_id,
        "tokenizer.ggml.padding_token_id": vocabulary.pad_id,
        "tokenizer.ggml.bos_token_id": 50256,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": CHAT_TEMPLATE,
        "general.sampling.top_k": 50,
    }
    assert {name: found[name] for name in expected} == expected
    tokens, types = found["tokenizer.ggml.tokens"], found["tokenizer.ggml.token_type"]
    assert len(tokens) == len(types) == vocabulary.size
    assert (tokens[vocabulary.end_id], types[vocabulary.end_id], types[0]) == (
        "<|end|>", TokenType.CONTROL, TokenType.NORMAL
    )  # fmt: skip
    product = next(tensor for tensor in reader.tensors if tensor.name == "blk.1.attn_qkv.weight")
    wanted = checkpoint_model.transformer.h[1].attn.c_attn.weight.detach().numpy().T
    assert np.array_equal(product.data, wanted.astype(np.float16))


def test_the_modelfile_names_the_parameters() -> None:
    settings = GenerationSettings(temperature=0.5, top_k=20)
    lines = gguf.modelfile(settings, 1024).splitlines()
    assert lines[:3] == [
        "FROM ./model-q8_0.gguf",
        'TEMPLATE """{{ range .Messages }}<|{{ .Role }}|>{{ .Content }}<|end|>{{ end }}<|assistant|>"""',
        'PARAMETER stop "<|end|>"',
    ]
    assert {"PARAMETER num_ctx 1024", "PARAMETER temperature 0.5", "PARAMETER top_k 20"} <= set(lines)


@pytest.mark.parametrize("name", [gguf.F16, gguf.Q8_0])
def test_a_weight_that_differs_in_gguf_is_noticed(exported: Path, checkpoint_model: GPT2LMHeadModel, name: str) -> None:
    weight = checkpoint_model.transformer.h[0].mlp.c_fc.weight.data
    before = float(weight[3, 4])
    weight[3, 4] += 0.02
    try:
        with pytest.raises(ExportError, match=rf"blk\.0\.ffn_up\.weight in {name} differs from the checkpoint's"):
            gguf._check(exported.parent / "gguf" / name, checkpoint_model)
    finally:
        weight[3, 4] = before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"activation_function": "relu"}, "activation function gelu_new, and this model has relu; remove gguf from"),
        ({"scale_attn_by_inverse_layer_idx": True}, "llama.cpp scales attention as OpenAI's GPT-2 does"),
    ],
)
def test_a_model_that_llama_cpp_computes_otherwise_is_refused(
    checkpoint_model: GPT2LMHeadModel, vocabulary: Vocabulary, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    config = checkpoint_model.config
    before = {name: getattr(config, name) for name in change}
    config.update(change)
    try:
        with pytest.raises(ExportError, match=words):
            gguf.write(tmp_path / "gguf", checkpoint_model, vocabulary, GenerationSettings())
    finally:
        config.update(before)


def test_a_tokenizer_that_llama_cpp_does_not_know_is_refused(
    checkpoint_model: GPT2LMHeadModel, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    other = Tokenizer.from_str(vocabulary.tokenizer.to_str())
    digits = pre_tokenizers.Digits(individual_digits=True)
    other.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    with pytest.raises(ExportError, match="GGUF has no name for the way this base splits text"):
        gguf.write(tmp_path / "gguf", checkpoint_model, Vocabulary(other), GenerationSettings())


@pytest.fixture
def small_files() -> Iterator[Callable[[int], None]]:
    """A function that limits the size of files, which simulates a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_one_line_and_keeps_the_last_files(exported: Path, small_files: Callable[[int], None]) -> None:
    output = exported.parent / "gguf"
    before = written(exported.parent)
    small_files(3_000_000)
    with pytest.raises(StorageError, match=r"gguf/model-f16\.gguf cannot be written \(.*\); make room on the disk"):
        formats.write("gguf", exported, output)
    assert written(exported.parent) == before


def test_a_missing_package_is_one_line(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(formats.PACKAGES, "onnx", ("onnx_of_nobody", "gguf"))
    done = CliRunner().invoke(app, ["export", "onnx", "--model", str(exported)])
    assert str(done.exception) == "The format onnx needs onnx_of_nobody; run `pip install onnx_of_nobody`."


@pytest.mark.parametrize("name", formats.FORMATS)
def test_the_same_model_gives_the_same_bytes(exported: Path, tmp_path: Path, name: formats.Format) -> None:
    if absent := [each for each in formats.PACKAGES[name] if find_spec(each) is None]:
        pytest.skip(f"not installed: {', '.join(absent)}")
    first = exported.parent / name
    if not first.is_dir():
        formats.write(name, exported, first)
    formats.write(name, exported, tmp_path / "again")
    assert written(tmp_path / "again") == written(first)


def test_the_stage_writes_the_chosen_formats_and_removes_the_others(
    tmp_path: Path, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_project(tmp_path, vocabulary)
    monkeypatch.chdir(tmp_path)
    exports = Path("models/exports")
    export()
    assert list(written(exports)) == ["README.md"]
    write_json(
        Path("params.yaml"),
        {**PARAMS, "export": {"dtype": "float32", "model_name": "tiny", "license": None, "formats": ["gguf"]}},
    )
    export()
    assert sorted(written(exports)) == [
        "README.md", "gguf/Modelfile", "gguf/model-f16.gguf", "gguf/model-q8_0.gguf"
    ]  # fmt: skip
    assert "in other formats: gguf." in (exports / "README.md").read_text()
    write_json(Path("params.yaml"), PARAMS)
    export()
    assert list(written(exports)) == ["README.md"]
