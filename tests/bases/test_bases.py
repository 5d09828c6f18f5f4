import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, pre_tokenizers

from stages.fetch import fetch
from tests.support.checkpoints import save_gpt2, save_other_tokenizer
from theta.bases import descriptors, digests
from theta.bases.presets import PRESETS, parameter_count
from theta.bases.settings import ModelSettings
from theta.errors import BaseModelError, DataError, ThetaError
from theta.files import read_json, sha256, write_json
from theta.settings import read
from theta.tokens.vocabulary import GPT2_FOLDER, Vocabulary

PARAMS = Path(__file__).parents[2] / "params.yaml"
OUTS = [Path("models/base"), Path("models/checkpoint"), Path("models/theta_final")]


@pytest.fixture(scope="session")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_gpt2(tmp_path_factory.mktemp("gpt2"))


@pytest.fixture(scope="session")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_gpt2(tmp_path_factory.mktemp("sharded"), width=48, shard_size="100KB")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return tmp_path


@pytest.fixture
def base(project: Path, gpt2: Path) -> Path:
    """A copy that a test may change, at bases/mine."""
    return Path(shutil.copytree(gpt2, project / "bases" / "mine"))


def resolve(base: str, revision: str | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    return descriptors.resolve(base, revision, 0, OUTS)


@pytest.mark.parametrize("name", PRESETS)
def test_scratch_is_its_shape_and_seed(name: str) -> None:
    weights, tokenizer = descriptors.resolve(f"scratch:{name}", None, 7, OUTS)
    assert (weights["preset"], weights["seed"], weights["layers"]) == (name, 7, PRESETS[name].layers)
    assert weights["width"] % weights["heads"] == 0
    assert descriptors.locate_weights(weights) is None
    assert Vocabulary.from_base(descriptors.locate_tokenizer(tokenizer)).size == 50_262


def test_local_folder(base: Path) -> None:
    weights, tokenizer = resolve("bases/mine")
    assert weights == {
        "kind": "local", "name": "bases/mine", "revision": None,
        "positions": 1024, "layers": 2, "heads": 2, "width": 32, "vocabulary_size": 50_257, "tokens": 50_257,
        "fine_tuned": False,
        "files": {name: sha256(base / name) for name in ("config.json", "model.safetensors")},
    }  # fmt: skip
    assert descriptors.locate_weights(weights) == base
    assert descriptors.locate_tokenizer(tokenizer) == GPT2_FOLDER


def test_parameters_are_counted_as_torch_counts_them(base: Path) -> None:
    from transformers import GPT2LMHeadModel

    weights, _ = resolve("bases/mine")
    assert descriptors.parameters(weights) == GPT2LMHeadModel.from_pretrained(base).num_parameters()


def test_parameters_with_another_width_of_perceptrons() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(n_layer=3, n_embd=24, n_head=2, vocab_size=90, n_positions=40, n_inner=7))
    assert parameter_count(3, 24, 90, 40, inner=7) == model.num_parameters()


def test_messages_and_settings_name_all_presets() -> None:
    described = str(ModelSettings.model_fields["base"].description)
    with pytest.raises(BaseModelError) as caught:
        resolve("scratch:huge")
    assert all(name in described and f"scratch:{name}" in str(caught.value) for name in PRESETS)


@pytest.mark.slow
def test_content_matters_and_spelling_does_not(base: Path) -> None:
    before = resolve("bases/mine")
    for spelling in ("./bases/mine/", "bases/../bases/mine/../mine", str(base)):
        assert resolve(spelling)[0]["files"] == before[0]["files"]
    assert resolve("./bases/mine/") == resolve(str(base)) == before
    with (base / "model.safetensors").open("r+b") as weights:
        weights.seek(-1, os.SEEK_END)
        weights.write(b"\x01")
    after = resolve("bases/mine")
    assert after[0] != before[0]
    assert after[1] == before[1]


@pytest.mark.slow
def test_an_exported_folder_has_the_shipped_vocabulary(base: Path) -> None:
    for file in ("tokenizer.json", "vocab.json", "merges.txt"):
        (base / file).unlink()
    Vocabulary.from_base(GPT2_FOLDER).save(base / "saved", 1024)
    shutil.copytree(base / "saved", base, dirs_exist_ok=True)
    assert resolve("bases/mine")[1] == resolve("scratch:mini")[1]


@pytest.mark.slow
@pytest.mark.parametrize("special", [[], ["<|system|>"], ["<|system|>", "<|user|>"]])
def test_special_tokens_in_theta_s_order_leave_the_vocabulary_the_shipped_one(base: Path, special: list[str]) -> None:
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    tokenizer.add_special_tokens(special)
    tokenizer.save(str(base / "tokenizer.json"))
    weights, found = resolve("bases/mine")
    assert (weights["tokens"], found["kind"]) == (50_257 + len(special), "shipped")
    assert Vocabulary.from_base(base).special_ids == Vocabulary.from_base(GPT2_FOLDER).special_ids


@pytest.mark.slow
@pytest.mark.parametrize("change", ["no splitter", "normalizer", "ignore_merges", "another order", "a merge less"])
def test_a_change_of_ids_makes_another_vocabulary(base: Path, change: str) -> None:
    content = read_json(base / "tokenizer.json")
    if change == "no splitter":
        content["pre_tokenizer"]["use_regex"] = False
    elif change == "normalizer":
        content["normalizer"] = {"type": "NFC"}
    elif change == "ignore_merges":
        content["model"]["ignore_merges"] = True
    elif change == "another order":
        content["added_tokens"] += [{**content["added_tokens"][0], "id": 50_257, "content": "<|pad|>"}]
    else:
        content["model"]["merges"].pop()
    write_json(base / "tokenizer.json", content)
    assert resolve("bases/mine")[1]["kind"] == "local"


@pytest.mark.slow
@pytest.mark.parametrize("change", ["other", "extra token", "prefix space"])
def test_another_vocabulary_is_located_by_name(base: Path, change: str) -> None:
    (base / "vocab.json").unlink()
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=change == "prefix space")
    tokenizer.add_tokens(["<|tool|>"] if change == "extra token" else [])
    tokenizer.save(str(base / "tokenizer.json"))
    if change == "other":
        save_other_tokenizer(base)
    descriptor = resolve("bases/mine")[1]
    assert descriptor == {
        "kind": "local", "name": "bases/mine", "revision": None, "positions": 1024,
        "files": {"tokenizer.json": sha256(base / "tokenizer.json")},
    }  # fmt: skip
    assert descriptors.locate_tokenizer(descriptor) == base


@pytest.mark.slow
def test_weights_in_the_order_of_transformers(base: Path, sharded: Path) -> None:
    (base / "model.safetensors").unlink()
    assert set(resolve("bases/mine")[0]["files"]) == {"config.json", "pytorch_model.bin"}
    (base / "pytorch_model.bin").unlink()
    with pytest.raises(BaseModelError, match=r"has no weights: none of model\.safetensors"):
        resolve("bases/mine")
    files = set(resolve(str(sharded))[0]["files"])
    assert files == {"config.json", "model.safetensors.index.json", *(p.name for p in sharded.glob("model-*"))}


@pytest.mark.slow
def test_a_copy_of_the_project_finds_the_ignored_folder(
    base: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    descriptor, _ = resolve("bases/mine")
    copy = project / ".dvc" / "tmp" / "copy"
    (copy / "bases" / "mine").mkdir(parents=True)
    shutil.copy(base / "config.json", copy / "bases" / "mine")  # tracked by git; the weights are not
    monkeypatch.chdir(copy)
    monkeypatch.setenv("DVC_ROOT", str(project))
    assert resolve("bases/mine")[0] == resolve(str(base))[0] == descriptor
    assert descriptors.locate_weights(descriptor) == base
    shutil.rmtree(base)
    with pytest.raises(BaseModelError, match=r"model.base 'bases/mine' are not on this machine.*dvc repro -f fetch"):
        descriptors.locate_weights(descriptor)


@pytest.mark.slow
def test_unchanged_files_are_not_read_again(base: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "SETTLED_SECONDS", 0)
    first = resolve("bases/mine")
    memory = project / ".theta" / "digests.json"
    entries = read_json(memory)
    assert {Path(name).name for name in entries} == {"config.json", "model.safetensors"}
    # A digest that belongs to no file shows that the file itself is not read.
    for entry in entries.values():
        entry[-1] = "0" * 64
    write_json(memory, entries)
    assert set(resolve("bases/mine")[0]["files"].values()) == {"0" * 64}
    before = (base / "model.safetensors").stat()
    with (base / "model.safetensors").open("r+b") as weights:
        weights.seek(-1, os.SEEK_END)
        weights.write(b"\x01")
    os.utime(base / "model.safetensors", ns=(before.st_atime_ns, before.st_mtime_ns))  # the same size and time
    found = resolve("bases/mine")[0]["files"]
    assert found == {"config.json": "0" * 64, "model.safetensors": sha256(base / "model.safetensors")}
    memory.write_text("[1, {")
    assert resolve("bases/mine")[0]["files"]["config.json"] == first[0]["files"]["config.json"]


@pytest.mark.slow
def test_a_file_changed_a_moment_ago_is_read_again(base: Path, project: Path) -> None:
    (base / "config.json").touch()
    resolve("bases/mine")
    assert not (project / ".theta" / "digests.json").exists()


@pytest.mark.slow
def test_files_of_the_hubs_cache_are_named_by_their_digest(base: Path, project: Path) -> None:
    blobs = project / "cache" / "blobs"
    blobs.mkdir(parents=True)
    name = "ab" * 32
    (base / "model.safetensors").rename(blobs / name)
    (base / "model.safetensors").symlink_to(blobs / name)
    assert resolve("bases/mine")[0]["files"]["model.safetensors"] == name
    (base / "model.safetensors").unlink()
    (base / "model.safetensors").symlink_to((blobs / name).rename(blobs / "ab"))  # as small files of git are named
    assert resolve("bases/mine")[0]["files"]["model.safetensors"] == sha256(blobs / "ab")


def test_a_cache_that_cannot_be_written_costs_only_time(base: Path, project: Path) -> None:
    (project / ".theta").write_text("a file in the place of the folder")
    assert resolve("bases/mine")[0]["files"]["config.json"] == sha256(base / "config.json")


@pytest.mark.parametrize("name", ["bases/nine", "./mine", "~/no/such", "/no/such/base", "a/b/c", "~nobody"])
def test_the_hub_is_not_asked_about_a_missing_folder(base: Path, name: str) -> None:
    with pytest.raises(BaseModelError, match=rf"model.base '{name}': this folder does not exist"):
        resolve(name)


def test_cycles_are_refused(base: Path, project: Path) -> None:
    final = project / "models" / "theta_final"
    with pytest.raises(BaseModelError, match="a cycle"):
        resolve("models/theta_final")  # before it exists, too
    shutil.copytree(base, final)
    (project / "link").symlink_to(final)
    for spelling in ("models/theta_final", "./models/theta_final/", str(final), "link", "models/x/../theta_final/."):
        with pytest.raises(BaseModelError, match=r"is in models/theta_final.*theta release.*set model.base"):
            resolve(spelling)
    shutil.copytree(base, project / "models" / "theta_enhanced_20261123" / "theta_final")
    assert resolve("models/theta_enhanced_20261123/theta_final")[0]["kind"] == "local"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ('{"model_type": "llama"}', "is a model of type 'llama'; Theta trains type 'gpt2'"),
        ("{}", "is a model of type None"),
        ("[]", "config.json does not hold a JSON object"),
        ("{", "config.json is not valid JSON"),
        ('{"model_type": "gpt2", "n_layer": "two"}', "n_layer in config.json is 'two', expected a count"),
    ],
)
def test_config_of_another_kind(base: Path, config: str, message: str) -> None:
    (base / "config.json").write_text(config)
    with pytest.raises(BaseModelError, match=message):
        resolve("bases/mine")


def test_damaged_folders(base: Path) -> None:
    (base / "tokenizer.json").write_text("{")
    with pytest.raises(DataError, match=r"tokenizer\.json cannot be read as a tokenizer"):
        resolve("bases/mine")
    (base / "tokenizer.json").unlink()
    (base / "merges.txt").unlink()
    with pytest.raises(BaseModelError, match=r"has neither tokenizer\.json nor"):
        resolve("bases/mine")
    (base / "config.json").unlink()
    with pytest.raises(BaseModelError, match=r"has no config\.json"):
        resolve("bases/mine")


def test_other_unusable_settings(base: Path) -> None:
    with pytest.raises(BaseModelError, match="'scratch:huge' is not a preset; choose one of scratch:nano"):
        resolve("scratch:huge")
    for name in ("scratch:mini", "bases/mine"):
        with pytest.raises(BaseModelError, match=f"model.revision is 'main', but model.base '{name}' is not on a hub"):
            resolve(name, "main")


def write_params(**changes: object) -> None:
    """The project's own params.yaml with some settings changed, such as model__base="gpt2"."""
    values = read(PARAMS)
    values["model"] |= {"revision": None, "rehearsal": "none"}
    values["data"]["path"] = str(PARAMS.parent / "Datasets" / "conversations")
    for name, value in changes.items():
        section, key = name.split("__")
        values[section][key] = value
    Path("params.yaml").write_text(json.dumps(values), encoding="utf-8")


@pytest.mark.slow
def test_the_stage_writes_the_same_bytes_twice(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_params(model__base="bases/mine", tokenizer__max_length=512)
    fetch()
    assert "Base model bases/mine: 1.7M parameters." in capsys.readouterr().out
    written = [Path("models/base/weights.json"), Path("models/base/tokenizer.json")]
    before = [path.read_bytes() for path in written]
    assert [read_json(path) for path in written] == list(resolve("bases/mine"))
    fetch()
    assert [path.read_bytes() for path in written] == before


@pytest.mark.slow
def test_the_stage_copies_what_a_local_base_has_for_rehearsal(base: Path) -> None:
    content = b'{"text": "It has\r\nends of its own."}\r\n'
    (base / "rehearsal.jsonl").write_bytes(content)
    written = Path("models/base/rehearsal.jsonl")
    write_params(model__base="bases/mine", model__rehearsal="auto")
    fetch()
    assert written.read_bytes() == content
    write_params(model__base="bases/mine", model__rehearsal="none")
    fetch()
    assert written.read_bytes() == b"\n"  # DVC warns about empty files
    written.write_bytes(content)
    write_params(model__base="scratch:nano", model__rehearsal="auto")
    fetch()
    assert written.read_bytes() == b"\n"  # DVC warns about empty files


@pytest.mark.slow
def test_a_base_without_rehearsal_writes_its_own_once(
    base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("theta.generate.rehearsal.TOKENS", 300)
    write_params(model__base="bases/mine", model__rehearsal="auto", machine__threads=1)
    written, origin = Path("models/base/rehearsal.jsonl"), Path("models/base/rehearsal.json")
    fetch()
    first, out = written.read_bytes(), capsys.readouterr().out
    assert "bases/mine writes texts of its own for rehearsal, once, which takes 10 minutes at most" in out
    assert [list(json.loads(line)) for line in first.splitlines()] == [["text"]] * len(first.splitlines())
    written.unlink()
    fetch()
    assert written.read_bytes() == first
    assert "writes texts" not in capsys.readouterr().out, "it is cached"
    # On a machine that has the results from elsewhere, but not the cache.
    shutil.rmtree(".theta/rehearsal")
    pulled = b'{"text": "Written on a GPU."}\n'
    written.write_bytes(pulled)
    fetch()
    assert (written.read_bytes(), read_json(origin)["from"]) == (pulled, "written by the base")
    (base / "config.json").write_text((base / "config.json").read_text() + "\n")
    fetch()
    assert written.read_bytes() != pulled, "the base has changed"


@pytest.mark.slow
def test_rehearsal_may_be_a_file(base: Path) -> None:
    write_params(model__base="bases/mine", model__rehearsal="old.csv")
    with pytest.raises(ThetaError, match=r"model\.rehearsal is 'old\.csv', which does not exist; give auto"):
        fetch()
    Path("old.csv").write_text("question,answer\nWhy?,So.\n")
    fetch()
    assert Path("models/base/rehearsal.jsonl").read_bytes() == Path("old.csv").read_bytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"generation__temperature": 3.0}, r"generation\.temperature is 3\.0 but must be from 0\.1 to 2\.0"),
        (
            {"train__tokens_per_step": 300},
            r"train\.tokens_per_step is 300, must be at least tokenizer\.max_length, 512",
        ),
        ({"data__path": "nowhere"}, r"nowhere does not exist"),
        ({"data__path": None}, r"data\.path is None, expected a valid string"),
        ({"data__path": "~/chats"}, r"data\.path is '~/chats', and '~' is not expanded: write /.*/chats\."),
        ({"data__path": "/"}, r"data\.path is '/', which contains this project"),
        ({"data__path": ".."}, r"data\.path is '\.\.', which contains this project"),
        ({"data__path": "Datasets/prepared/x"}, r"and the pipeline writes Datasets/prepared: a cycle"),
        ({"data__path": "Datasets"}, r"and the pipeline writes Datasets/prepared: a cycle"),
        ({"data__path": "hf://models/gpt2"}, r"is not of the form hf://datasets/NAME"),
        ({"data__path": "/proc/self"}, r"data\.path is '/proc/self', a folder of the operating system"),
        ({"model__bass": "gpt2"}, r"unknown key model\.bass \(did you mean 'base'\?\)"),
        (
            {
                "tokenizer__max_length": 2048,
                "train__tokens_per_step": 2048,
                "machine__tokens_per_microbatch": 2048,
            },
            r"tokenizer\.max_length is 2048, but model\.base 'scratch:nano' has 1024 positions; set it to 1024 or less",
        ),
    ],
)
def test_the_stage_refuses_wrong_settings_and_writes_nothing(
    project: Path, changes: dict[str, object], message: str
) -> None:
    write_params(**{"model__base": "scratch:nano", "tokenizer__max_length": 512, **changes})
    with pytest.raises(ThetaError, match=message):
        fetch()
    assert not Path("models").exists()


def test_the_stage_refuses_its_own_outs(project: Path) -> None:
    for out in ("models/base", "models/checkpoint", "models/theta_final"):
        write_params(model__base=out)
        with pytest.raises(BaseModelError, match="a cycle"):
            fetch()


def test_a_base_that_is_a_file_is_refused_in_one_line(project: Path) -> None:
    (project / "README.md").write_text("A file.")
    for name in ("README.md", "./README.md", str(project / "README.md")):
        with pytest.raises(BaseModelError, match=r"is not a folder; name the folder that holds config\.json"):
            resolve(name)
