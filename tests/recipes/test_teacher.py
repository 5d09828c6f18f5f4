"""The teacher computes the same as transformers' Llama, and replies to every prompt."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from recipes.starter import teacher
from recipes.starter.teacher import Teacher
from tests.support.teachers import TOKENS, random_llama, write_gguf

PROMPTS = [f"{word}{number}?" for word in ("he", "the", "when", "where") for number in range(10)]


@pytest.fixture(scope="module")
def llama() -> LlamaForCausalLM:
    return random_llama()


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory, llama: LlamaForCausalLM) -> Teacher:
    path: Path = tmp_path_factory.mktemp("teacher") / "llama.gguf"
    write_gguf(path, llama)
    return teacher.load(path, "cpu")


@pytest.fixture(scope="module")
def exact(loaded: Teacher) -> Teacher:
    """The same weights in float32."""
    return replace(loaded, weights={name: weight.float() for name, weight in loaded.weights.items()})


def replies(model: Teacher, prompts: list[str] = PROMPTS, **changes: float) -> list[tuple[int, str, bool]]:
    settings: dict[str, Any] = {"max_tokens": 24, "temperature": 1.0, "min_p": 0.01, "batch": 8, "seed": 0}
    return list(teacher.replies(model, prompts, **{**settings, **changes}))


@torch.inference_mode()
def logits(model: Teacher, ids: Tensor, *, at_once: int) -> Tensor:
    """Return the logits after `ids`, of which `at_once` are read together and the others one by one."""
    cache = teacher.new_cache(model, *ids.shape)
    found = teacher.next_logits(model, ids[:, :at_once], cache, begin=0)
    for place in range(at_once, ids.shape[1]):
        found = teacher.next_logits(model, ids[:, place : place + 1], cache, begin=place)
    return found


@pytest.mark.parametrize("at_once", [1, 5, 12])
def test_logits_are_those_of_transformers(exact: Teacher, llama: LlamaForCausalLM, at_once: int) -> None:
    ids = torch.randint(len(TOKENS), (3, 12), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = llama(ids).logits[:, -1]
    torch.testing.assert_close(logits(exact, ids, at_once=at_once), expected, rtol=1e-4, atol=1e-5)


def test_it_is_read_in_bfloat16(loaded: Teacher, exact: Teacher) -> None:
    ids = torch.arange(8)[None]
    assert {weight.dtype for weight in loaded.weights.values()} == {torch.bfloat16}
    found, expected = (logits(model, ids, at_once=8).float() for model in (loaded, exact))
    assert (found - expected).abs().max() < 0.05 * expected.abs().max()  # three digits, through two layers


def test_words_are_merged_and_numbers_split_into_digits(loaded: Teacher) -> None:
    text = teacher.prompt([("user", "he 12 he")])
    tokens = loaded.tokenizer.encode(text, add_special_tokens=False).tokens
    message = ["<|im_start|>", *"user", "Ċ", "he", "Ġ", "1", "2", "Ġhe", "<|im_end|>", "Ċ"]
    assert tokens == [*message, "<|im_start|>", *"assistant", "Ċ"]
    assert loaded.end_id == TOKENS.index("<|im_end|>")
    assert teacher.question_prompt("to", "he") == "<|im_start|>system\nto<|im_end|>\n<|im_start|>user\nhe"


@pytest.mark.parametrize("batch", [1, 4, 64])
def test_every_prompt_is_answered_once(loaded: Teacher, batch: int) -> None:
    found = replies(loaded, batch=batch)
    assert sorted(place for place, _, _ in found) == list(range(len(PROMPTS)))
    assert {ended for _, _, ended in found} == {True, False}


def test_the_same_seed_gives_the_same_replies(loaded: Teacher) -> None:
    assert replies(loaded) == replies(loaded)
    assert replies(loaded) != replies(loaded, seed=1)
    equal = replies(loaded, ["he"] * 8)
    assert len({text for _, text, _ in equal}) > 1  # equal prompts draw differently


@pytest.mark.slow
def test_the_likeliest_reply_depends_on_its_prompt_alone(exact: Teacher, llama: LlamaForCausalLM) -> None:
    """The reply equals that of transformers, whichever prompts share its batch."""
    expected = {}
    for place, text in enumerate(PROMPTS):
        ids = torch.tensor([exact.tokenizer.encode(text, add_special_tokens=False).ids])
        mask = torch.ones_like(ids)
        with torch.inference_mode():
            written = llama.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=24)[0, ids.shape[1] :]
        ended = exact.end_id in written.tolist()
        expected[place] = (exact.tokenizer.decode(written.tolist()).strip(), ended)
    assert {ended for _, ended in expected.values()} == {True, False}
    for batch in (1, 4, 64):
        found = replies(exact, temperature=1e-5, min_p=0.99, batch=batch)
        assert {place: (text, ended) for place, text, ended in found} == expected


def test_a_reply_of_one_token_has_ended_only_if_it_is_empty(loaded: Teacher) -> None:
    found = replies(loaded, ["he"] * 300, max_tokens=1)
    assert {text for _, text, ended in found if ended} == {""}
    assert len({text for _, text, ended in found if not ended}) > 5
