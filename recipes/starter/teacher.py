"""A small instruct model from a PyPI package, and its replies to many prompts in parallel.

SmolLM2-135M-Instruct (Allal et al. 2025; Apache-2.0), a Llama-type decoder (Touvron et al. 2023), is read from its
GGUF file and runs in bfloat16. Only prompts of the same length share a batch, so that it needs neither padding nor a
mask.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from gguf import GGUFReader
from gguf.quants import dequantize
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

END = "<|im_end|>"


@dataclass(frozen=True)
class Shape:
    """Sizes of the model."""

    layers: int
    heads: int
    kv_heads: int
    head_width: int
    rope_base: float
    norm_epsilon: float


@dataclass(frozen=True)
class Teacher:
    """Weights in bfloat16 under the names of the GGUF format; each matrix is [out, in]."""

    weights: dict[str, Tensor]
    shape: Shape
    tokenizer: Tokenizer

    @property
    def end_id(self) -> int:
        """The id of the token that ends a message."""
        found = self.tokenizer.token_to_id(END)
        assert found is not None
        return found


def fastest_device() -> str:
    """Return the GPU if there is one, otherwise the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def load(path: Path, device: str) -> Teacher:
    """Load the teacher from a GGUF file."""
    reader = GGUFReader(path)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    weights = {
        each.name: torch.from_numpy(dequantize(each.data, each.tensor_type).copy()).to(device, torch.bfloat16)
        for each in reader.tensors
    }
    shape = Shape(
        layers=fields["llama.block_count"],
        heads=fields["llama.attention.head_count"],
        kv_heads=fields["llama.attention.head_count_kv"],
        head_width=fields["llama.rope.dimension_count"],
        rope_base=fields["llama.rope.freq_base"],
        norm_epsilon=fields["llama.attention.layer_norm_rms_epsilon"],
    )
    return Teacher(weights, shape, _tokenizer(fields))


def _tokenizer(fields: dict[str, Any]) -> Tokenizer:
    """Byte-level BPE that splits numbers into digits."""
    tokens = fields["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({token: place for place, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = 3
    kinds = fields["tokenizer.ggml.token_type"]
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True) for token, kind in zip(tokens, kinds, strict=True) if kind == control]
    )
    return tokenizer


def prompt(messages: Sequence[tuple[str, str]]) -> str:
    """Return messages of (role, text) in the format of its training (ChatML), and the beginning of its reply."""
    rendered = "".join(f"<|im_start|>{role}\n{text}{END}\n" for role, text in messages)
    return f"{rendered}<|im_start|>assistant\n"


def question_prompt(instruction: str, beginning: str) -> str:
    """Return a system message and the beginning of a user's message, which the model then completes."""
    return f"<|im_start|>system\n{instruction}{END}\n<|im_start|>user\n{beginning}"


def replies(
    teacher: Teacher,
    prompts: Sequence[str],
    *,
    max_tokens: int,
    temperature: float,
    min_p: float,
    batch: int,
    seed: int,
) -> Iterator[tuple[int, str, bool]]:
    """Yield the index of each prompt, its reply, and whether the model ended it, in the order of completion.

    Args:
        teacher: the model.
        prompts: complete prompts.
        max_tokens: maximum number of tokens of a reply.
        temperature: temperature of the sampling.
        min_p: tokens with less than this fraction of the most likely token's probability are not drawn (min-p, Nguyen
            et al. 2024).
        batch: number of prompts answered in parallel.
        seed: seed of the sampling; equal prompts still get different replies.
    """
    device = teacher.weights["token_embd.weight"].device
    generator = torch.Generator(device).manual_seed(seed)
    encoded = [each.ids for each in teacher.tokenizer.encode_batch(list(prompts), add_special_tokens=False)]
    by_length: dict[int, list[int]] = {}
    for place, ids in enumerate(encoded):
        by_length.setdefault(len(ids), []).append(place)
    for places in by_length.values():
        for begin in range(0, len(places), batch):
            chosen = places[begin : begin + batch]
            batch_ids = torch.tensor([encoded[place] for place in chosen], device=device)
            written = _write(teacher, batch_ids, max_tokens, temperature, min_p, generator)
            texts = teacher.tokenizer.decode_batch([reply for reply, _ in written.values()])
            for (row, (_, ended)), text in zip(written.items(), texts, strict=True):
                yield chosen[row], text.strip(), ended


# cuDNN's attention is excluded because it plans again for every shape, and the length grows with each token.
@sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH])
@torch.inference_mode()
def _write(
    teacher: Teacher, ids: Tensor, max_tokens: int, temperature: float, min_p: float, generator: torch.Generator
) -> dict[int, tuple[list[int], bool]]:
    """For each row of `ids` [R, length], the ids of its reply without the end token, and whether the model ended it."""
    rows, length = ids.shape
    cache = new_cache(teacher, rows, length + max_tokens)
    alive = torch.arange(rows, device=ids.device)
    written = torch.empty(rows, 0, dtype=torch.long, device=ids.device)
    new, replies = ids, {}
    for step in range(max_tokens):
        logits = next_logits(teacher, new, cache, begin=length + step - 1 if step else 0)
        new = _draw(logits, temperature, min_p, generator)[:, None]
        written = torch.cat((written, new), 1)
        # Checked every 8 tokens only: the host waits for the device here, and the remaining rows are copied.
        if step % 8 == 7 or step == max_tokens - 1:
            ended = (written == teacher.end_id).any(1)
            for row, text in zip(alive[ended].tolist(), written[ended].tolist(), strict=True):
                replies[row] = (text[: text.index(teacher.end_id)], True)
            alive, written, new = alive[~ended], written[~ended], new[~ended]
            cache = [tensor[:, ~ended] for tensor in cache]
            if not len(alive):
                break
    return replies | {row: (text, False) for row, text in zip(alive.tolist(), written.tolist(), strict=True)}


def new_cache(teacher: Teacher, rows: int, length: int) -> list[Tensor]:
    """Return an empty cache of keys and values, each [layers, rows, kv heads, length, head width]."""
    shape, like = teacher.shape, teacher.weights["token_embd.weight"]
    return [like.new_empty(shape.layers, rows, shape.kv_heads, length, shape.head_width) for _ in range(2)]


def next_logits(teacher: Teacher, ids: Tensor, cache: list[Tensor], begin: int) -> Tensor:
    """Return the logits [R, V] of the token after `ids` [R, L], whose positions start at `begin`; updates the cache."""
    shape, weights = teacher.shape, teacher.weights
    rows, length = ids.shape
    angles = _angles(shape, begin, length, ids.device)
    hidden = functional.embedding(ids, weights["token_embd.weight"])
    for layer in range(shape.layers):
        name = f"blk.{layer}"
        normed = _norm(teacher, hidden, f"{name}.attn_norm.weight")
        queries, keys, values = (
            functional.linear(normed, weights[f"{name}.attn_{part}.weight"])
            .view(rows, length, -1, shape.head_width)
            .transpose(1, 2)
            for part in "qkv"
        )
        cache[0][layer, :, :, begin : begin + length] = _rotated(keys, angles)
        cache[1][layer, :, :, begin : begin + length] = values
        past = [tensor[layer, :, :, : begin + length] for tensor in cache]
        mixed = _attention(_rotated(queries, angles), past[0], past[1])
        hidden = hidden + functional.linear(mixed, weights[f"{name}.attn_output.weight"])
        normed = _norm(teacher, hidden, f"{name}.ffn_norm.weight")
        gate = functional.silu(functional.linear(normed, weights[f"{name}.ffn_gate.weight"]))
        up = functional.linear(normed, weights[f"{name}.ffn_up.weight"])
        hidden = hidden + functional.linear(gate * up, weights[f"{name}.ffn_down.weight"])
    last = _norm(teacher, hidden[:, -1], "output_norm.weight")
    return functional.linear(last, weights["token_embd.weight"])


def _attention(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """[R, L, width]: attention of queries [R, heads, L, w] to keys and values [R, kv heads, T, w]; L is 1 or T."""
    rows, heads, length, width = queries.shape
    if length == 1:
        # Heads that share keys become several queries of one head, so that the keys are read once.
        queries = queries.view(rows, keys.shape[1], -1, width)
        mixed = functional.scaled_dot_product_attention(queries, keys, values)
        return mixed.reshape(rows, 1, heads * width)
    shared = [tensor.repeat_interleave(heads // keys.shape[1], 1) for tensor in (keys, values)]
    mixed = functional.scaled_dot_product_attention(queries, shared[0], shared[1], is_causal=True)
    return mixed.transpose(1, 2).reshape(rows, length, heads * width)


def _norm(teacher: Teacher, hidden: Tensor, name: str) -> Tensor:
    return functional.rms_norm(hidden, hidden.shape[-1:], teacher.weights[name], teacher.shape.norm_epsilon)


def _angles(shape: Shape, begin: int, length: int, device: torch.device) -> Tensor:
    """Rotations of the positions as complex numbers [length, head width / 2]."""
    powers = torch.arange(0, shape.head_width, 2, device=device) / shape.head_width
    angles = torch.outer(torch.arange(begin, begin + length, device=device).float(), shape.rope_base**-powers)
    return torch.polar(torch.ones_like(angles), angles)


def _rotated(vectors: Tensor, angles: Tensor) -> Tensor:
    """Apply rotary positions (Su et al. 2021) to adjacent pairs, the order in which GGUF stores the weights."""
    pairs = torch.view_as_complex(vectors.float().unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * angles).flatten(-2).to(vectors.dtype)


def _draw(logits: Tensor, temperature: float, min_p: float, generator: torch.Generator) -> Tensor:
    """Draw one id per row, [R], with the Gumbel trick, which needs no sorting."""
    scaled = logits.float() / temperature
    scaled.masked_fill_(scaled < scaled.amax(-1, keepdim=True) + math.log(min_p), -torch.inf)
    return scaled.sub_(torch.empty_like(scaled).exponential_(generator=generator).log_()).argmax(-1)
