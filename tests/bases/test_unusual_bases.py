"""Bases unlike OpenAI's: each can be exported with a folder that verification accepts, or fetch refuses it."""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import GPT2LMHeadModel

from stages.fetch import fetch
from tests.support.checkpoints import byte_level, save_base
from tests.support.tiny import GENERATION
from theta.bases import descriptors
from theta.errors import ThetaError
from theta.export import bundle, verification
from theta.files import read_json
from theta.generate.settings import GenerationSettings
from theta.model import network
from theta.settings import read
from theta.tokens.vocabulary import SAMPLES, Vocabulary

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935\nsize 548105171\n"
BASE = Path("base")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose params.yaml names the base `BASE`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    values = read(ROOT / "params.yaml")
    values["model"].update(base=BASE.as_posix(), revision=None, rehearsal="none")
    values["tokenizer"]["max_length"] = 128
    values["data"]["path"] = str(ROOT / "Datasets" / "conversations")
    Path("params.yaml").write_text(json.dumps(values), encoding="utf-8")
    return tmp_path


def to_the_end() -> tuple[GPT2LMHeadModel, Vocabulary, Path]:
    """Fetch, resize, export and verify the base; return the model, its vocabulary and the folder."""
    fetch()
    weights, tokenizer = read_json(Path("models/base/weights.json")), read_json(Path("models/base/tokenizer.json"))
    vocabulary = Vocabulary.from_base(descriptors.locate_tokenizer(tokenizer))
    model = network.from_base(weights, vocabulary.size)
    assert all(config.eos_token_id is None for config in (model.config, model.generation_config))  # not GPT-2's 50256
    network.trim(model, vocabulary.size)
    folder = Path("models/theta_final")
    bundle.write(folder, model, vocabulary, GenerationSettings(**GENERATION), dtype=torch.float32, card="# card\n")
    assert verification.verify(folder, model, vocabulary, torch.float32) == 0
    return model, vocabulary, folder


def edit_config(**values: Any) -> None:
    path = BASE / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def edit_weights(change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(BASE / "model.safetensors")
    change(tensors)
    save_file(tensors, BASE / "model.safetensors", metadata={"format": "pt"})


def pickled(zipped: bool = True) -> None:
    """Turn the weights into pytorch_model.bin, the output matrix included, as older versions of transformers did."""
    tensors = load_file(BASE / "model.safetensors")
    tensors["lm_head.weight"] = tensors["transformer.wte.weight"]
    torch.save(tensors, BASE / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    (BASE / "model.safetensors").unlink()


SPLITTERS = {
    "prefix space": pre_tokenizers.ByteLevel(add_prefix_space=True),
    "digits": pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)]),
    "no regex": pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    "another regex": pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\p{N}{1,3}| ?\p{L}+|[^\p{L}\p{N}]+"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    ),
}


@pytest.mark.parametrize("splitter", SPLITTERS.values(), ids=SPLITTERS)
def test_a_special_pre_tokenizer_is_exported(splitter: pre_tokenizers.PreTokenizer) -> None:
    save_base(BASE, byte_level(splitter))
    _, vocabulary, folder = to_the_end()
    assert read_json(folder / "tokenizer_config.json")["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert vocabulary.decode(vocabulary.tokenizer.encode(SAMPLES[0]).ids) == SAMPLES[0]
    assert Vocabulary.load(folder).decode(vocabulary.tokenizer.encode(SAMPLES[0]).ids) == SAMPLES[0]


def test_a_normalizer_that_only_changes_the_spelling_of_letters_is_exported() -> None:
    save_base(BASE, byte_level(normalizer=normalizers.NFC()))
    to_the_end()


def test_byte_level_bpe_without_options_stays_gpt2s() -> None:
    save_base(BASE, byte_level())
    _, _, folder = to_the_end()
    assert read_json(folder / "tokenizer_config.json")["tokenizer_class"] == "GPT2Tokenizer"


def test_encoding_is_the_same_each_time() -> None:
    tokenizer = byte_level()
    tokenizer.model.dropout = 0.5
    save_base(BASE, tokenizer)
    _, vocabulary, _ = to_the_end()
    assert len({tuple(vocabulary.tokenizer.encode("a stitch in time saves").ids) for _ in range(20)}) == 1


def test_rows_beyond_the_tokens_are_not_known() -> None:
    tokenizer = byte_level()
    size = tokenizer.get_vocab_size()
    save_base(BASE, tokenizer, rows=size + 47)
    edit_weights(lambda tensors: tensors["transformer.wte.weight"][size:].fill_(100.0))
    model, vocabulary, _ = to_the_end()
    rows = model.transformer.wte.weight
    assert vocabulary.size == len(rows) == size + 5
    assert descriptors.known_rows(read_json(Path("models/base/weights.json"))) == size
    assert torch.allclose(rows[size:], rows[:size].mean(dim=0).expand(5, -1), atol=1e-6)


def test_padding_within_the_special_tokens_is_not_known() -> None:
    tokenizer = byte_level()
    size = tokenizer.get_vocab_size()
    save_base(BASE, tokenizer, rows=size + 3)
    edit_weights(lambda tensors: tensors["transformer.wte.weight"][size:].fill_(100.0))
    model, _, _ = to_the_end()
    assert model.transformer.wte.weight.abs().max() < 1


@pytest.mark.parametrize("padding", [0, 60])
def test_special_tokens_of_the_base_keep_their_ids_and_rows(padding: int) -> None:
    """Some are inside the vocabulary, and one follows it and has other flags."""
    tokenizer = byte_level(special=["<|user|>", "<|endoftext|>", "<|end|>"])
    tokenizer.add_tokens([AddedToken("<|assistant|>", lstrip=True, rstrip=True, normalized=True)])
    size = tokenizer.get_vocab_size()
    save_base(BASE, tokenizer, rows=size + padding)
    base = load_file(BASE / "model.safetensors")["transformer.wte.weight"]
    model, vocabulary, _ = to_the_end()
    ids = vocabulary.special_ids
    assert (ids["<|user|>"], ids["<|end|>"], ids["<|assistant|>"]) == (0, 2, size - 1)
    assert (ids["<|system|>"], ids["<|pad|>"], vocabulary.size) == (size, size + 1, size + 2)
    assert torch.equal(model.transformer.wte.weight[:size], base[:size])


def test_all_special_tokens_in_other_places() -> None:
    save_base(BASE, byte_level(special=["<|pad|>", "<|end|>", "<|assistant|>", "<|user|>", "<|system|>"]))
    _, vocabulary, _ = to_the_end()
    assert vocabulary.special_ids == {
        "<|system|>": 4, "<|user|>": 3, "<|assistant|>": 2, "<|end|>": 1, "<|pad|>": 0,
    }  # fmt: skip
    assert vocabulary.size == 270


@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_weights(zipped: bool) -> None:
    save_base(BASE, byte_level())
    pickled(zipped)
    to_the_end()


def test_shards_of_pickled_weights() -> None:
    save_base(BASE, byte_level())
    tensors = list(load_file(BASE / "model.safetensors").items())
    (BASE / "model.safetensors").unlink()
    parts = {"pytorch_model-1.bin": dict(tensors[:9]), "pytorch_model-2.bin": dict(tensors[9:])}
    for name, part in parts.items():
        torch.save(part, BASE / name)
    weight_map = {tensor: name for name, part in parts.items() for tensor in part}
    content = json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map})
    (BASE / "pytorch_model.bin.index.json").write_text(content)
    to_the_end()
    torch.save(dict(tensors[10:]), BASE / "pytorch_model-2.bin")
    with pytest.raises(ThetaError, match=r"model\.base 'base' lacks the weights"):
        fetch()


def clone_output_matrix(tensors: dict[str, torch.Tensor]) -> None:
    tensors["lm_head.weight"] = tensors["transformer.wte.weight"].clone()


def only_output_matrix(tensors: dict[str, torch.Tensor]) -> None:
    tensors["lm_head.weight"] = tensors.pop("transformer.wte.weight")


@pytest.mark.parametrize("tied", [True, False])
def test_an_output_matrix_stored_twice_but_equal(tied: bool) -> None:
    save_base(BASE, byte_level())
    edit_weights(clone_output_matrix)
    edit_config(tie_word_embeddings=tied)
    to_the_end()


def test_an_output_matrix_instead_of_the_embedding() -> None:
    """`safetensors.torch.save_model` writes such files."""
    save_base(BASE, byte_level())
    edit_weights(only_output_matrix)
    to_the_end()


def test_names_without_prefix_and_16_bits() -> None:
    """gpt2 on the hub is stored so, with the masks that older versions of transformers saved."""

    def change(tensors: dict[str, torch.Tensor]) -> None:
        for name in list(tensors):
            tensors[name.removeprefix("transformer.")] = tensors.pop(name).bfloat16()
        tensors["h.0.attn.bias"] = torch.ones(1, 1, 256, 256)

    save_base(BASE, byte_level())
    edit_weights(change)
    to_the_end()


def test_narrow_perceptrons() -> None:
    save_base(BASE, byte_level(), n_inner=8, activation_function="relu")
    to_the_end()


# ------------------------------------------------------------------------------------------------- refused by fetch


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch exploded",)


def metaspace() -> Tokenizer:
    """A BPE that is not byte-level."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    characters = [*map(chr, range(32, 127)), *map(chr, range(0xC0, 0x180))]
    trainer = trainers.BpeTrainer(special_tokens=["<unk>"], initial_alphabet=characters, show_progress=False)
    tokenizer.train_from_iterator(["a stitch in time saves nine"] * 3, trainer)
    return tokenizer


def word_piece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def without_some_bytes() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=400, show_progress=False)
    tokenizer.train_from_iterator(
        [SAMPLES[5], "a stitch in time saves nine", "".join(map(chr, range(128, 512)))], trainer
    )
    return tokenizer


def with_ids(ids: dict[str, int]) -> Tokenizer:
    """A tokenizer with other ids for some tokens."""
    content = json.loads(byte_level().to_str())
    content["model"]["vocab"].update(ids)
    return Tokenizer.from_str(json.dumps(content))


TOKENIZERS = {
    "lower case": (lambda: byte_level(normalizer=normalizers.Lowercase()), r"turns 'In 2024.* into 'in 2024"),
    "NFKC": (lambda: byte_level(normalizer=normalizers.NFKC()), "turns 'In 2024.*½.* into 'In 2024.*1⁄2"),
    "replace": (lambda: byte_level(normalizer=normalizers.Replace("\n", " ")), r"turns 'Two  blanks"),
    "strip": (lambda: byte_level(normalizer=normalizers.Strip()), "turns 'Two  blanks"),
    "no byte level": (metaspace, "turns 'In 2024"),
    "WordPiece": (word_piece, "WordPiece vocabulary of 2 entries; Theta needs GPT-2's byte-level BPE"),
    "missing bytes": (without_some_bytes, "keeps every character"),
    "a gap": (lambda: with_ids({"unused": 300}), "ids of this base's vocabulary do not run from 0"),
    "one id twice": (lambda: with_ids({"unused": 271}), "ids of this base's vocabulary do not run from 0"),
}


@pytest.mark.parametrize(("tokenizer", "message"), TOKENIZERS.values(), ids=TOKENIZERS)
def test_tokenizers_that_lose_text_are_refused(tokenizer: Callable[[], Tokenizer], message: str) -> None:
    save_base(BASE, tokenizer(), rows=400)
    refused(message)


def test_a_tokenizer_that_transformers_reads_differently_is_refused() -> None:
    """A user's word that spells a special token of the base is plain text in Theta only."""
    save_base(BASE, byte_level(special=["Invoice"]))
    refused("model.base 'base' has a tokenizer that cannot be exported: The exported chat template gives")


def truncate(name: str, size: int) -> None:
    (BASE / name).write_bytes((BASE / name).read_bytes()[:size])


def untie(tensors: dict[str, torch.Tensor]) -> None:
    clone_output_matrix(tensors)
    tensors["lm_head.weight"][7, 3] += 1


def overlap() -> None:
    path = BASE / "model.safetensors"
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["transformer.wpe.weight"]["data_offsets"] = header["transformer.wte.weight"]["data_offsets"]
    changed = json.dumps(header).encode()
    path.write_bytes(len(changed).to_bytes(8, "little") + changed + content[8 + length :])


def untie_by_config() -> None:
    edit_weights(untie)
    edit_config(tie_word_embeddings=False)


def pickled_of_another_width() -> None:
    pickled()
    edit_config(n_embd=14)


def pickled_part(size: int) -> None:
    pickled()
    truncate("pytorch_model.bin", size)


def untie_pickled() -> None:
    edit_weights(untie)
    torch.save(load_file(BASE / "model.safetensors"), BASE / "pytorch_model.bin")
    (BASE / "model.safetensors").unlink()


def replace_pickled(content: Any, **options: Any) -> None:
    (BASE / "model.safetensors").unlink()
    if isinstance(content, bytes):
        (BASE / "pytorch_model.bin").write_bytes(content)
    else:
        torch.save(content, BASE / "pytorch_model.bin", **options)


def damage_pickled(place: int) -> None:
    pickled()
    content = bytearray((BASE / "pytorch_model.bin").read_bytes())
    content[place : place + 40] = bytes(40)
    (BASE / "pytorch_model.bin").write_bytes(content)


def index(weight_map: Any) -> None:
    (BASE / "model.safetensors").rename(BASE / "part.safetensors")
    (BASE / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


DAMAGES: dict[str, tuple[Callable[[], object], str]] = {
    "untied": (lambda: edit_weights(untie), "is untied: its output matrix .* differs from its embedding"),
    "untied by config": (untie_by_config, "is untied"),
    "untied, pickled": (untie_pickled, "is untied"),
    "untied without a matrix": (lambda: edit_config(tie_word_embeddings=False), r"there is no lm_head\.weight"),
    "a billion layers": (lambda: edit_config(n_layer=10**9), "n_layer 1000000000, .* is larger than the weight files"),
    "a wide config": (lambda: edit_config(n_embd=10**7), "larger than the weight files, which hold 0.1 MB"),
    "many positions": (lambda: edit_config(n_positions=2**30), "larger than the weight files"),
    "a large vocabulary": (lambda: edit_config(vocab_size=2**31 - 1), "larger than the weight files"),
    "a wide perceptron": (lambda: edit_config(n_inner=10**9), "larger than the weight files"),
    "sizes beyond counting": (lambda: edit_config(n_layer=10**30), "n_layer in config.json is 10+, expected a count"),
    "a perceptron of text": (lambda: edit_config(n_inner="wide"), "n_inner in config.json is 'wide', expected a count"),
    "odd heads": (lambda: edit_config(n_head=3), "n_embd 16 in config.json is not a multiple of n_head 3"),
    "another width": (
        lambda: edit_config(n_embd=14),
        "wte.weight has the shape 270 x 16, but config.json requires 270 x 14; copy both from the same model",
    ),
    "another width, pickled": (
        pickled_of_another_width,
        "wte.weight has the shape 270 x 16, but config.json requires 270 x 14",
    ),
    "another vocabulary": (lambda: edit_config(vocab_size=269), "wte.weight has the shape 270 x 16, but .* 269 x 16"),
    "a tensor less": (
        lambda: edit_weights(lambda tensors: tensors.pop("transformer.h.1.mlp.c_fc.bias")),
        r"lacks the weights h\.1\.mlp\.c_fc\.bias",
    ),
    "quantized": (
        lambda: edit_weights(lambda tensors: tensors.update({"transformer.ln_f.bias": torch.ones(16).char()})),
        r"ln_f\.bias is stored as I8; Theta reads F64",
    ),
    "cross-attention": (lambda: edit_config(add_cross_attention=True), "has cross-attention to an encoder"),
    "an unknown activation": (lambda: edit_config(activation_function="snake"), "activation_function .* is 'snake'"),
    "a dropout of text": (lambda: edit_config(resid_pdrop="x"), "resid_pdrop .* is 'x', expected a number from 0 to 1"),
    "no epsilon": (lambda: edit_config(layer_norm_epsilon=None), "layer_norm_epsilon .* is None, expected a number"),
    "a switch of text": (lambda: edit_config(scale_attn_weights="no"), "scale_attn_weights .* is 'no', expected true"),
    "half a file": (lambda: truncate("model.safetensors", 9000), "is damaged .it has 9000 bytes, its header requires"),
    "half a header": (lambda: truncate("model.safetensors", 90), "model.safetensors is damaged .its header claims"),
    "a header that claims too much": (
        lambda: (BASE / "model.safetensors").write_bytes((2**62).to_bytes(8, "little") + bytes(80_000)),
        "model.safetensors is damaged .its header claims 4611686018427387904 bytes",
    ),
    "a header of another kind": (
        lambda: (BASE / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"[]" + bytes(80_000)),
        "model.safetensors is damaged",
    ),
    "bytes too many": (
        lambda: (BASE / "model.safetensors").write_bytes((BASE / "model.safetensors").read_bytes() + b"more"),
        "model.safetensors is damaged .it has .* bytes, its header requires",
    ),
    "overlapping tensors": (overlap, "model.safetensors is damaged .transformer.* is not where it should be"),
    "no bytes": (lambda: truncate("model.safetensors", 0), "model.safetensors is empty"),
    "a pointer": (
        lambda: (BASE / "model.safetensors").write_bytes(POINTER),
        "model.safetensors is a git-lfs pointer, not the file itself; run `git lfs pull`",
    ),
    "a pointer of another file": (
        lambda: (BASE / "tokenizer.json").write_bytes(POINTER),
        "tokenizer.json is a git-lfs pointer",
    ),
    "a deep config": (lambda: (BASE / "config.json").write_text("[" * 200_000), "config.json is not valid JSON"),
    "a bomb": (
        lambda: replace_pickled({"wte.weight": Bomb(), "padding": torch.zeros(20_000)}),
        "holds something other than tensors",
    ),
    "an old bomb": (lambda: replace_pickled(pickle.dumps(Bomb()) + bytes(80_000)), "holds something other than"),
    "a list": (lambda: replace_pickled([torch.zeros(8000)]), "is not a plain list of weights"),
    "a pickled pointer": (lambda: replace_pickled(POINTER), "pytorch_model.bin is a git-lfs pointer"),
    "nothing pickled": (lambda: replace_pickled(b""), "pytorch_model.bin is empty"),
    "half a pickle": (lambda: pickled_part(45_000), "pytorch_model.bin .*is damaged"),
    "a tenth of a pickle": (lambda: pickled_part(9000), "one of them is damaged or"),
    "another pickle": (lambda: damage_pickled(80), "pytorch_model.bin .*is damaged"),
    "random bytes": (lambda: replace_pickled(bytes(range(256)) * 200), "pytorch_model.bin .*is damaged"),
    "shards elsewhere": (
        lambda: index({"wte.weight": "../part.safetensors"}),
        "names the weight file '../part.safetensors'; the name of a .safetensors file in the same folder is expected",
    ),
    "shards of another kind": (lambda: index({"wte.weight": "config.json"}), "names the weight file 'config.json'"),
    "shards that are no names": (lambda: index({"wte.weight": ["part.safetensors"]}), "names the weight file"),
    "a shard that is missing": (lambda: index({"wte.weight": "other.safetensors"}), "has no other.safetensors"),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_fetch_refuses(damage: Callable[[], object], message: str) -> None:
    save_base(BASE, byte_level())
    damage()
    refused(message)
    assert not Path("exploded").exists()


def refused(message: str) -> None:
    with pytest.raises(ThetaError, match=message) as caught:
        fetch()
    assert "\n" not in str(caught.value)
    assert not Path("models").exists()


# ------------------------------------------------------------------------------------------------ cost of the checks


SCRIPT = """
import sys
from pathlib import Path
from stages.fetch import fetch
for params in sys.argv[1:]:
    fetch(params=Path(params))
assert not {"torch", "transformers"} & set(sys.modules)
"""


@pytest.mark.slow
def test_the_starter_needs_no_torch_and_an_unusual_base_is_checked_once() -> None:
    save_base(BASE, byte_level(SPLITTERS["digits"]))
    fetch()
    values = read(Path("params.yaml"))
    values["model"]["base"] = str(ROOT / "models" / "starter")
    Path("starter.yaml").write_text(json.dumps(values), encoding="utf-8")
    command = [sys.executable, "-c", SCRIPT, "params.yaml", "starter.yaml"]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)
    Path(".theta/checked_base.json").write_text("{")  # a damaged cache is ignored
    fetch()
    tokenizer = byte_level(special=["Invoice"])  # transformers would read it differently
    tokenizer.save(str(BASE / "tokenizer.json"))
    with pytest.raises(ThetaError, match="cannot be exported"):
        fetch()
