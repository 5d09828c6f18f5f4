import asyncio
import json
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from theta import ThetaModel
from theta.conversation.messages import Message
from theta.errors import BaseModelError, GenerationError, SettingsError
from theta.generate import cpu_library, writers
from theta.generate.assistant import Reply, text_pieces
from theta.generate.settings import GenerationSettings
from theta.model import network
from theta.tokens.vocabulary import Vocabulary

QUESTION = "What is machine learning?"


@pytest.fixture(scope="module")
def model(tiny_folder: Path) -> ThetaModel:
    return ThetaModel.load(tiny_folder, device="cpu", dtype="float32")


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "theta_final"))


def test_the_number_format_is_chosen_or_given(model: ThetaModel, tiny_folder: Path) -> None:
    assert model.dtype == "float32"
    assert model.settings == GenerationSettings()
    half = ThetaModel.load(tiny_folder, device="cpu", dtype="bfloat16")
    assert half.dtype == "bfloat16"
    assert half.generate(QUESTION, max_length=20, seed=1)
    with pytest.raises(GenerationError, match="dtype is 'int3', expected one of auto, bfloat16, float32, int8"):
        ThetaModel.load(tiny_folder, dtype="int3")


def writer_of(folder: Path, **options: Any) -> str:
    return type(ThetaModel.load(folder, device="cpu", **options).engine._writer).__name__


@pytest.fixture
def _compiler() -> None:
    if cpu_library.library() is None:
        pytest.skip("needs a C compiler")


@pytest.mark.usefixtures("_compiler")
def test_on_a_cpu_replies_are_compiled_except_for_many_weights_in_float32(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert writer_of(folder) == writer_of(folder, soon=True) == "CompiledWriter"
    monkeypatch.setattr(writers, "FEW_WEIGHTS", 1)
    assert writer_of(folder, dtype="bfloat16") == "CompiledWriter"
    assert writer_of(folder) == "TorchWriter"
    tensors = {name: each.bfloat16() for name, each in load_file(folder / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert writer_of(folder) == "CompiledWriter"


def test_without_a_c_compiler_torch_or_numpy_writes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_library, "library", lambda: None)
    assert writer_of(folder) == writer_of(folder, dtype="bfloat16") == "TorchWriter"
    assert writer_of(folder, soon=True) == "CpuWriter"


@pytest.mark.slow
@pytest.mark.usefixtures("_compiler")
@pytest.mark.parametrize("dtype", ["auto", "bfloat16", "int8"])
def test_a_reply_on_a_cpu_needs_no_torch(tiny_folder: Path, dtype: str) -> None:
    code = (
        "import sys; from theta import ThetaModel; "
        f"ThetaModel.load({str(tiny_folder)!r}, 'cpu', {dtype!r}).generate('Hi', max_length=2); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "transformers"} & set(done.stdout.split())


def test_generate_returns_the_reply_alone_and_a_seed_repeats_it(model: ThetaModel) -> None:
    reply = model.generate(prompt=QUESTION, max_length=20, temperature=0.8, seed=3)
    assert isinstance(reply, str)
    assert reply
    assert QUESTION not in reply
    assert reply == model.generate(prompt=QUESTION, max_length=20, temperature=0.8, seed=3)
    assert reply != model.generate(prompt=QUESTION, max_length=20, temperature=0.8, seed=4)


def test_without_a_seed_each_reply_is_another(model: ThetaModel) -> None:
    assert len({model.generate(QUESTION, max_length=10, temperature=2.0) for _ in range(4)}) > 1


def test_a_list_is_answered_by_a_list(model: ThetaModel) -> None:
    questions = [QUESTION, [Message("user", "Hi")], [{"role": "user", "content": "What?"}]]
    replies = model.generate(questions, max_length=10, seed=3)
    assert replies == [model.generate(one, max_length=10, seed=3 + place) for place, one in enumerate(questions)]
    assert model.generate([Message("user", "Hi")], max_length=10, seed=4) == replies[1]


def test_threads_and_coroutines_get_the_replies_that_they_would_get_alone(model: ThetaModel) -> None:
    questions = [f"{QUESTION} {number}" for number in range(24)]
    alone = [model.generate(one, max_length=8, seed=number) for number, one in enumerate(questions)]

    async def ask() -> list[str]:
        tasks = (
            asyncio.to_thread(model.generate, one, max_length=8, seed=number) for number, one in enumerate(questions)
        )
        return list(await asyncio.gather(*tasks))

    assert asyncio.run(ask()) == alone


def test_a_stream_that_nobody_reads_to_its_end_frees_its_row(model: ThetaModel) -> None:
    for _ in range(model.engine.most_rows + 2):
        stream = model.stream(QUESTION, max_length=40)
        next(stream)
        stream.close()
    assert not model.engine.is_full


def test_a_session_remembers_what_was_said(model: ThetaModel) -> None:
    session = model.session("Be brief.", max_length=10)
    first = session.ask(QUESTION, seed=1)
    asked = [Message("system", "Be brief."), Message("user", QUESTION)]
    assert first == model.chat(asked, max_length=10, seed=1)
    second = session.ask("Why?", seed=2)
    assert second == model.chat(
        [*asked, Message("assistant", first.strip()), Message("user", "Why?")], max_length=10, seed=2
    )
    session.undo()
    assert [message.role for message in session.messages] == ["system", "user", "assistant"]


def test_parameters_are_positional_too_and_checked(model: ThetaModel) -> None:
    assert model.generate(QUESTION, 12, 0.5, seed=1) == model.generate(QUESTION, max_length=12, temperature=0.5, seed=1)
    with pytest.raises(SettingsError, match=r"^temperature is 3.0 but must be from 0.1 to 2.0\.$"):
        model.generate(QUESTION, temperature=3.0)
    with pytest.raises(SettingsError, match="unknown parameter max_tokens"):
        model.chat(QUESTION, max_tokens=3)  # type: ignore[call-arg]


def test_chat_takes_messages_and_mappings(model: ThetaModel) -> None:
    messages = [Message("system", "Be brief."), Message("user", QUESTION)]
    mappings = [{"role": message.role, "content": message.content} for message in messages]
    reply = model.chat(messages, max_length=10, seed=1)
    assert reply == model.chat(mappings, max_length=10, seed=1)
    assert model.chat([Message("user", QUESTION)], max_length=10, seed=1) == model.generate(
        QUESTION, max_length=10, seed=1
    )


def test_stream_joins_to_the_reply_of_chat(model: ThetaModel) -> None:
    pieces = list(model.stream(QUESTION, max_length=60, seed=2))
    assert len(pieces) > 5
    assert "".join(pieces) == model.chat(QUESTION, max_length=60, seed=2)


def test_stream_checks_before_the_first_piece(model: ThetaModel) -> None:
    with pytest.raises(SettingsError):
        model.stream(QUESTION, top_p=2)
    with pytest.raises(GenerationError):
        model.stream([])


@pytest.mark.parametrize(
    "text", ["naïve 🙂 日本語", "🙂", "a\N{REPLACEMENT CHARACTER}b", "\N{REPLACEMENT CHARACTER}", ""]
)
def test_a_piece_never_splits_a_character(vocabulary: Vocabulary, text: str) -> None:
    ids = vocabulary.tokenizer.encode(text, add_special_tokens=False).ids
    pieces = list(text_pieces(ids, vocabulary))
    assert "".join(pieces) == text
    if "\N{REPLACEMENT CHARACTER}" not in text:
        assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)


def test_bytes_that_are_not_text_stream_as_they_decode(vocabulary: Vocabulary) -> None:
    # Half a character in the middle and at the end.
    half = vocabulary.tokenizer.encode("🙂", add_special_tokens=False).ids[:-1]
    word = vocabulary.tokenizer.encode(" word", add_special_tokens=False).ids
    ids = [*half, *word, *half]
    assert "".join(text_pieces(ids, vocabulary)) == vocabulary.decode(ids)


def test_generate_batch_keeps_the_order_for_any_batch_size(model: ThetaModel) -> None:
    prompts: list[Any] = [QUESTION, [Message("user", "Hi " * 30)], [{"role": "user", "content": "Why?"}], "And then?"]
    parameters = {"max_length": 15, "seed": 7}
    together = model.generate_batch(prompts, batch_size=4, **parameters)
    assert together == model.generate_batch(prompts, batch_size=1, **parameters)
    assert together == model.generate_batch(prompts, batch_size=3, **parameters)
    greedy = model.generate_batch(prompts, max_length=15, top_k=1)
    assert [reply.text for reply in greedy] == [model.chat(prompt, max_length=15, top_k=1) for prompt in prompts]


def test_generate_batch_counts_tokens_without_the_end(model: ThetaModel) -> None:
    cut = model.generate_batch([QUESTION], max_length=5, seed=0)
    assert cut == [Reply(model.generate(QUESTION, max_length=5, seed=0), tokens=5, ended=False)]
    assert model.generate_batch([]) == []
    with pytest.raises(SettingsError, match="batch_size is 0"):
        model.generate_batch([QUESTION], batch_size=0)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda model: model.generate(prompt=3), r"The prompt is 3, expected text or a list of messages"),
        (lambda model: model.generate(None), r"The prompt is None, expected text or a list of messages"),
        (
            lambda model: model.chat({"role": "user", "content": "Hi"}),
            r"The prompt is \{.*\}, expected text or a list",
        ),
        (lambda model: model.chat([3]), r"Message 1 is 3, expected"),
        (lambda model: model.generate("Hi", temperature="hot"), r"temperature is 'hot', expected a valid number\.$"),
        (lambda model: model.generate("Hi", top_k=True), r"top_k is True, expected a number or text"),
        (lambda model: model.generate("Hi", max_length=[5]), r"max_length is \[5\], expected a valid integer"),
        (lambda model: model.generate("Hi", seed="a"), r"seed is 'a' but must be a whole number from 0 to"),
        (lambda model: model.generate("Hi", seed=1.5), r"seed is 1\.5 but must be a whole number from 0 to"),
        (lambda model: model.generate_batch(["Hi"], batch_size="many"), r"batch_size is 'many' but must be a whole"),
        (
            lambda model: model.generate_batch("Hi"),
            r"The prompts are 'Hi', expected a list; `generate` takes a single one",
        ),
        (lambda model: model.generate_batch(7), r"The prompts are 7, expected a list; `generate` takes a single one"),
    ],
)
def test_an_argument_of_another_type_is_one_clear_line(
    model: ThetaModel, call: Callable[[Any], object], words: str
) -> None:
    with pytest.raises((GenerationError, SettingsError), match=words) as caught:
        call(model)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("folder", [3, None, b"models"])
def test_a_folder_of_another_type_is_one_clear_line(folder: Any) -> None:
    with pytest.raises(GenerationError, match=rf"The folder of the model is {folder!r}, expected text or a path"):
        ThetaModel.load(folder)


def test_a_device_of_another_type_is_one_clear_line(tiny_folder: Path) -> None:
    with pytest.raises(GenerationError, match="The device is 3, expected text such as 'auto'"):
        ThetaModel.load(tiny_folder, device=3)  # type: ignore[arg-type]


def favouring(folder: Path, vocabulary: Vocabulary, id_: int, columns: int = 0) -> ThetaModel:
    """Return the model of a folder with one id so likely that no other is produced where this one is allowed.

    Args:
        columns: number of output columns beyond the vocabulary, which a model in training has.
    """
    from transformers import GPT2LMHeadModel

    network = GPT2LMHeadModel.from_pretrained(folder)
    if columns:
        network.resize_token_embeddings(vocabulary.size + columns, mean_resizing=False)
    with torch.no_grad():
        wanted = network.transformer.wte.weight[id_]
        network.transformer.ln_f.weight.zero_()
        network.transformer.ln_f.bias.copy_(100 * wanted / wanted.norm())
        wanted.mul_(10)
    return ThetaModel.of(network, vocabulary)


def test_a_reply_that_ends_at_once_is_empty(tiny_folder: Path, vocabulary: Vocabulary) -> None:
    silent = favouring(tiny_folder, vocabulary, vocabulary.end_id)
    assert silent.generate_batch([QUESTION]) == [Reply("", tokens=0, ended=True)]


def test_special_tokens_other_than_the_end_are_never_produced(tiny_folder: Path, vocabulary: Vocabulary) -> None:
    end_of_text = vocabulary.tokenizer.token_to_id("<|endoftext|>")
    assert end_of_text is not None
    for id_ in {*vocabulary.special_ids.values(), end_of_text} - {vocabulary.end_id}:
        assert vocabulary.decode([id_]) == ""
        (reply,) = favouring(tiny_folder, vocabulary, id_).generate_batch([QUESTION], max_length=1)
        assert reply.text, id_


def test_columns_beyond_the_vocabulary_are_never_produced(tiny_folder: Path, vocabulary: Vocabulary) -> None:
    for id_ in (vocabulary.size, vocabulary.size + 1):
        assert vocabulary.decode([id_]) == ""
        (reply,) = favouring(tiny_folder, vocabulary, id_, columns=2).generate_batch([QUESTION], max_length=1)
        assert reply.text, id_


def test_a_model_smaller_than_the_vocabulary_is_refused(tiny_folder: Path, vocabulary: Vocabulary) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = json.loads((tiny_folder / "config.json").read_text())
    config |= {"vocab_size": vocabulary.size - 1, "pad_token_id": None}
    with pytest.raises(GenerationError, match="do not belong together"):
        ThetaModel.of(GPT2LMHeadModel(GPT2Config(**config)), vocabulary)


def test_a_long_conversation_is_answered_and_a_too_long_question_refused(model: ThetaModel) -> None:
    exchanges = [Message("user", "word " * 20), Message("assistant", "reply " * 20)] * 5
    assert model.chat([*exchanges, Message("user", QUESTION)], max_length=1024, seed=0)
    with pytest.raises(GenerationError, match=r"has \d+ tokens .* reads 128"):
        model.generate("word " * 200)


def test_the_folder_recommends_its_parameters(folder: Path) -> None:
    settings = GenerationSettings(max_length=4, top_k=1)
    (folder / "generation_config.json").write_text(json.dumps(settings.to_generation_config()))
    model = ThetaModel.load(str(folder), device="cpu")
    assert model.settings == settings
    assert model.generate_batch([QUESTION])[0].tokens <= 4


def test_pytorch_model_bin_alone_gives_the_same_replies(folder: Path, model: ThetaModel) -> None:
    from safetensors.torch import load_file

    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    loaded = ThetaModel.load(folder, device="cpu", dtype="float32")
    assert loaded.generate(QUESTION, max_length=20, seed=1) == model.generate(QUESTION, max_length=20, seed=1)


def damage_nothing_but(name: str, content: bytes | None) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).unlink() if content is None else (folder / name).write_bytes(content)

    return damage


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (shutil.rmtree, "is not a folder; give one that Theta exported"),
        (damage_nothing_but("config.json", None), "lacks config.json"),
        (damage_nothing_but("tokenizer.json", None), "lacks tokenizer.json"),
        (damage_nothing_but("model.safetensors", None), "lacks model.safetensors or pytorch_model.bin"),
        (damage_nothing_but("config.json", b"{}"), "is not a model config"),
        (damage_nothing_but("config.json", b'{"model_type": "llama"}'), "holds a model of type 'llama'"),
        (damage_nothing_but("tokenizer.json", b"{}"), "tokenizer.json cannot be read"),
        (damage_nothing_but("model.safetensors", b"12345678"), "cannot be loaded"),
    ],
)
def test_a_damaged_folder_gives_one_line(folder: Path, damage: Callable[[Path], Any], words: str) -> None:
    damage(folder)
    with pytest.raises(GenerationError) as caught:
        ThetaModel.load(folder)
    assert words in str(caught.value)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


class RunsCode:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda path, proof: path.write_bytes(pickle.dumps(RunsCode(proof))), "which could run code"),
        (lambda path, proof: torch.save({"wte.weight": RunsCode(proof)}, path), "which could run code"),
        (lambda path, _: path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"), "or is damaged"),
        (lambda path, _: path.write_bytes(b""), "is damaged"),
        (lambda path, _: path.write_bytes(path.read_bytes()[:-1000]), "is damaged"),
        (lambda path, _: torch.save([torch.ones(2)], path), "is not a plain list of weights"),
    ],
    ids=["pickle", "torch file", "git-lfs", "empty", "cut", "a list"],
)
def test_pickled_weights_never_run_code(
    folder: Path, tmp_path: Path, write: Callable[[Path, Path], Any], words: str
) -> None:
    from safetensors.torch import load_file

    weights, proof = folder / "pytorch_model.bin", tmp_path / "code was run"
    torch.save(load_file(folder / "model.safetensors"), weights)
    (folder / "model.safetensors").unlink()
    write(weights, proof)
    with pytest.raises(GenerationError) as caught:
        ThetaModel.load(folder, device="cpu")
    assert words in str(caught.value)
    assert str(weights) in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(BaseModelError) as refused:
        network.load(folder)
    assert "weights_only" not in str(refused.value)
    assert not proof.exists()


def test_missing_weights_are_not_filled_at_random(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["transformer.h.1.mlp.c_fc.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(GenerationError, match=r"lacks 1 weight, such as transformer.h.1.mlp.c_fc.weight"):
        ThetaModel.load(folder)


def test_a_missing_device_gives_one_line(tiny_folder: Path) -> None:
    with pytest.raises(GenerationError, match=r"device 'abacus' cannot be used .*; try 'auto' or 'cpu'"):
        ThetaModel.load(tiny_folder, device="abacus")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n_head": "four"}, "n_head is 'four', expected a whole number above 0"),
        ({"conversation_tokens": "many"}, "conversation_tokens is 'many'"),
        ({"n_layer": 0}, "n_layer is 0"),
        ({"n_embd": 64}, "64 numbers in transformer.wte.weight, which has"),
        ({"n_head": 64}, "says n_head 64, which does not divide n_embd 32"),
        ({"n_head": 3}, "says n_head 3, which does not divide n_embd 32"),
        ({"n_positions": 2048}, "requires 2048 x 32 numbers in transformer.wpe.weight, which has 128 x 32"),
        ({"n_inner": 96}, "requires 32 x 96 numbers in transformer.h.0.mlp.c_fc.weight, which has 32 x 128"),
        ({"vocab_size": 77}, "requires 77 x 32 numbers in transformer.wte.weight"),
    ],
)
@pytest.mark.parametrize("soon", [True, False])
def test_a_config_that_does_not_fit_the_weights_is_one_clear_line(
    folder: Path, changes: dict[str, Any], words: str, soon: bool
) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(GenerationError, match=re.escape(words)):
        ThetaModel.load(folder, device="cpu", soon=soon)
