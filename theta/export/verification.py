"""Open an exported folder with transformers alone, as other people will, and compare it with the checkpoint.

The weights are compared bit for bit: only rounding to the exported number format is allowed. The logits are compared
too, because a wrong config would interpret the right weights wrongly.
"""

from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, GPT2LMHeadModel

from theta.bases.descriptors import locate_tokenizer
from theta.bases.weight_files import PICKLED, SAFETENSORS
from theta.conversation.messages import Message
from theta.conversation.template import render, render_prompt
from theta.errors import BaseModelError, ExportError, reason
from theta.export.bundle import FILES, special_ids, stored_tensors
from theta.tokens.vocabulary import Vocabulary

FLOAT32_TOLERANCE = 1e-5
"""Largest allowed difference of a logit. The same weights and code give equal bits; a sum in another order may not."""
ROUNDINGS = 8
"""Logits of 16-bit weights may differ by this many rounding errors of the largest logit: each layer adds some, and most
cancel out. A wrong config changes logits far more."""

PROMPTS = (
    (Message("user", "What is machine learning?"),),
    (
        Message("system", "Answer in one sentence."),
        Message("user", "How do I list  hidden files?\n\n    ls -a ~/.config"),
    ),
    (
        Message("user", "Bonjour, ça va? 你好 👋🏽"),
        Message("assistant", "Very well, thank you!"),
        Message("user", " Write `def add(a, b):` with type hints.\n"),
    ),
    (
        Message("user", "Invoice 20231105: 12345 x 3.14 = ?\r\n\tItem\t007\n\n\n\t\tTotal 1,000,000  "),
        Message("assistant", "38763.3\n"),
        Message("user", "\t谢谢！1９ ½ ﬁ Ⅳ e\u0301 ＡＢＣ👩‍💻👍🏽\u200b "),
    ),
)
"""Prompts with several turns, a system message, code, numbers, tabs, line endings, outer spaces, letters outside ASCII,
emoji, and characters that normalizers change."""


def verify(folder: Path, model: GPT2LMHeadModel, vocabulary: Vocabulary, dtype: torch.dtype) -> float:
    """Check a folder that `bundle.write` wrote.

    Args:
        model: the checkpoint's model, in float32 on the CPU.
        dtype: the number format of the weight files.

    Returns:
        The largest difference between a logit of the checkpoint and one of the folder.

    Raises:
        ExportError: the folder lacks something or differs from the checkpoint.
    """
    if absent := [name for name in FILES if not (folder / name).is_file()]:
        raise ExportError(f"The exported folder lacks {', '.join(absent)}.")
    _check_tokenizer(folder, vocabulary)
    _check_generation(folder, vocabulary)
    wanted = [_logits(model, vocabulary, prompt) for prompt in PROMPTS]
    return max(_check_weights(folder, name, model, vocabulary, dtype, wanted) for name in (SAFETENSORS, PICKLED))


def check_base_tokenizer(descriptor: dict[str, Any]) -> None:
    """Check, before any training, that transformers will read the exported tokenizer of a base as training does.

    Args:
        descriptor: the content of `models/base/tokenizer.json`, which the fetch stage writes.

    Raises:
        BaseModelError: transformers would read it differently.
        DataError: the tokenizer cannot be used at all.
    """
    vocabulary = Vocabulary.from_base(locate_tokenizer(descriptor))
    with TemporaryDirectory() as temporary:
        vocabulary.save(Path(temporary) / "tokenizer", descriptor["positions"])
        try:
            _check_tokenizer(Path(temporary) / "tokenizer", vocabulary)
        except ExportError as fault:
            raise BaseModelError(
                f"model.base '{descriptor['name']}' has a tokenizer that cannot be exported: {fault} "
                "Choose another base."
            ) from fault


def _check_tokenizer(folder: Path, vocabulary: Vocabulary) -> None:
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as fault:
        raise ExportError(f"transformers cannot open the exported tokenizer: {reason(fault)}") from fault
    for name, wanted in special_ids(vocabulary).items():
        if (found := getattr(tokenizer, name)) != wanted:
            raise ExportError(f"The exported tokenizer has {name} {found}, expected {wanted}.")
    for prompt in PROMPTS:
        messages = [{"role": message.role, "content": message.content} for message in prompt]
        found = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
        if list(found) != (ids := vocabulary.encode(list(render_prompt(prompt)))[0]):
            raise ExportError(f"The exported chat template gives {list(found)} for {messages}, training used {ids}.")
        _check_training_template(folder, tokenizer, vocabulary, prompt)


def _check_training_template(folder: Path, tokenizer: Any, vocabulary: Vocabulary, prompt: Sequence[Message]) -> None:
    """Compare the learned tokens of a conversation with those that trainers find by the training template."""
    chat = [*prompt, Message("assistant", "It depends.")]
    found = tokenizer.apply_chat_template(
        [{"role": message.role, "content": message.content} for message in chat],
        chat_template=(folder / "chat_template_training.jinja").read_text(encoding="utf-8"),
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    if (found["input_ids"], [flag == 1 for flag in found["assistant_masks"]]) != vocabulary.encode([*render(chat)]):
        raise ExportError(f"The exported training template marks other tokens as learned in {chat} than training did.")


def _check_generation(folder: Path, vocabulary: Vocabulary) -> None:
    try:
        config = GenerationConfig.from_pretrained(folder, local_files_only=True)
        config.validate(strict=True)  # strict turns warnings into errors
    except (OSError, ValueError) as fault:
        raise ExportError(f"The exported generation_config.json is not valid: {reason(fault)}") from fault
    for name, wanted in special_ids(vocabulary).items():
        if (found := getattr(config, name)) != wanted:
            raise ExportError(f"The exported generation_config.json has {name} {found}, expected {wanted}.")


def _check_weights(
    folder: Path,
    name: str,
    model: GPT2LMHeadModel,
    vocabulary: Vocabulary,
    dtype: torch.dtype,
    wanted: list[Tensor],
) -> float:
    """Check one weight file with config.json, and return the largest difference of a logit."""
    loaded = _load(folder, name)
    for key, value in special_ids(vocabulary).items():
        if (found := getattr(loaded.config, key)) != value:
            raise ExportError(f"The exported config.json has {key} {found}, expected {value}.")
    if loaded.dtype != dtype:
        raise ExportError(f"{name} opens as {loaded.dtype}, expected {dtype}.")
    kept = loaded.state_dict()
    for key, tensor in stored_tensors(model, dtype):
        if not tensor.isfinite().all():
            raise ExportError(f"{key} has values out of the range of {dtype}; set export.dtype to float32 or bfloat16.")
        if key not in kept or not torch.equal(kept[key], tensor):
            raise ExportError(f"{key} in {name} differs from the checkpoint.")
    loaded.float()
    found_logits = [_logits(loaded, vocabulary, prompt) for prompt in PROMPTS]
    difference = max(float((a - b).abs().max()) for a, b in zip(wanted, found_logits, strict=True))
    if not difference <= (allowed := _tolerance(dtype, wanted)):
        raise ExportError(
            f"Logits of {name} differ from the checkpoint's by {difference:.3g}; at most {allowed:.3g} is allowed."
        )
    return difference


def _load(folder: Path, name: str) -> GPT2LMHeadModel:
    """The model that transformers loads from one of the two weight files, with default options."""
    try:
        loaded = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, use_safetensors=name == SAFETENSORS
        )
    except (OSError, ValueError, RuntimeError, EOFError, UnpicklingError, SafetensorError) as fault:
        raise ExportError(f"transformers cannot open the exported {name}: {reason(fault)}") from fault
    if not isinstance(loaded, GPT2LMHeadModel):
        raise ExportError(f"The exported config.json opens as {type(loaded).__name__}, expected GPT2LMHeadModel.")
    return loaded.eval()


def examples(model: GPT2LMHeadModel, vocabulary: Vocabulary) -> list[tuple[list[int], Tensor]]:
    """Return the ids of each prompt and the model's logits, [1, tokens, vocabulary], for comparison with others'."""
    prompts = [vocabulary.encode(list(render_prompt(prompt)))[0] for prompt in PROMPTS]
    return [(ids, _logits(model, vocabulary, prompt)) for ids, prompt in zip(prompts, PROMPTS, strict=True)]


@torch.inference_mode()
def _logits(model: GPT2LMHeadModel, vocabulary: Vocabulary, prompt: tuple[Message, ...]) -> Tensor:
    """Logits of a prompt, [1, tokens, vocabulary]."""
    ids = vocabulary.encode(list(render_prompt(prompt)))[0]
    logits: Tensor = model.eval()(torch.tensor([ids])).logits
    return logits


def _tolerance(dtype: torch.dtype, logits: list[Tensor]) -> float:
    if dtype == torch.float32:
        return FLOAT32_TOLERANCE
    return ROUNDINGS * torch.finfo(dtype).eps * max(float(each.abs().max()) for each in logits)
