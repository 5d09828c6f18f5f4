"""ONNX: one graph with a cache, for onnxruntime and the programs built on it.

Inputs and outputs have the names of Hugging Face's optimum, so its ORTModelForCausalLM opens the folder:

    input_ids, position_ids          [batch, new]           int64
    attention_mask                   [batch, past + new]    int64, 0 for padding
    past_key_values.LAYER.key/value  [batch, heads, past, width / heads]   past is 0 in the first call
    logits                           [batch, new, vocabulary]
    present.LAYER.key/value          [batch, heads, past + new, width / heads]
"""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from warnings import catch_warnings, simplefilter

import numpy as np
import torch
from torch import Tensor, nn
from transformers import GPT2LMHeadModel

from theta.bases.hub import CONFIG
from theta.errors import ExportError
from theta.export.verification import FLOAT32_TOLERANCE, examples
from theta.files import writing
from theta.generate.settings import CONFIG_FILE
from theta.tokens.vocabulary import Vocabulary

FILE = "model.onnx"
LARGEST_FILE_BYTES = 1_800_000_000
"""A file of ONNX is at most 2 GiB; the weights of larger models are in a second file."""
TOLERANCE = 10 * FLOAT32_TOLERANCE
"""Largest difference of a logit: the sums of its kernels are in another order."""


def write(folder: Path, source: Path, model: GPT2LMHeadModel, vocabulary: Vocabulary) -> None:
    """Write the graph with weights in 32 bits, the configs and the tokenizer into a new folder.

    Args:
        folder: must not exist.
        source: the exported folder of `model`, with config.json and generation_config.json.
        model: in float32 on the CPU.

    Raises:
        ExportError: the logits of onnxruntime differ from the model's.
        StorageError: a file cannot be written.
    """
    vocabulary.save(folder, model.config.n_positions)
    for name in (CONFIG, CONFIG_FILE):
        with writing(folder / name):
            shutil.copyfile(source / name, folder / name)
    with writing(folder / FILE):
        _write_graph(folder / FILE, model)
    _check(folder / FILE, model, vocabulary)


class _Decoder(nn.Module):
    """transformers' GPT-2, with the cache as plain tensors."""

    def __init__(self, model: GPT2LMHeadModel) -> None:
        super().__init__()
        self.transformer, self.heads = model.transformer, model.config.n_head
        self.scales_by_layer = model.config.scale_attn_by_inverse_layer_idx
        self.scales = model.config.scale_attn_weights

    def forward(self, ids: Tensor, mask: Tensor, positions: Tensor, past: list[Tensor]) -> list[Tensor]:
        """Return the logits, then key and value of each layer; `past` holds key and value of each layer."""
        hidden = self.transformer.wte(ids) + self.transformer.wpe(positions)
        new, total = ids.shape[1], mask.shape[1]
        place = torch.arange(total)
        is_seen = (place[None, :] <= place[total - new :, None])[None] & mask.bool()[:, None]
        # Not -inf: a row of padding sees nothing, and its softmax would not be a number.
        bias = torch.where(is_seen, 0.0, torch.finfo(torch.float32).min)[:, None]
        present: list[Tensor] = []
        for layer, block in enumerate(self.transformer.h):
            attended, key, value = self._attend(layer, block, block.ln_1(hidden), bias, past[2 * layer : 2 * layer + 2])
            hidden = hidden + attended
            hidden = hidden + block.mlp(block.ln_2(hidden))
            present += [key, value]
        logits = self.transformer.ln_f(hidden) @ self.transformer.wte.weight.T
        return [logits, *present]

    def _attend(
        self, layer: int, block: Any, hidden: Tensor, bias: Tensor, past: list[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        batch, new, width = hidden.shape
        parts = block.attn.c_attn(hidden).split(width, dim=2)
        query, key, value = (part.view(batch, new, self.heads, -1).transpose(1, 2) for part in parts)
        key, value = torch.cat([past[0], key], dim=2), torch.cat([past[1], value], dim=2)
        scale = (width // self.heads) ** -0.5 if self.scales else 1.0
        scores = query @ key.transpose(2, 3) * (scale / (layer + 1) if self.scales_by_layer else scale) + bias
        mixed = (scores.softmax(dim=3) @ value).transpose(1, 2).reshape(batch, new, width)
        return block.attn.c_proj(mixed), key, value


def _write_graph(path: Path, model: GPT2LMHeadModel) -> None:
    import onnx

    config, layers = model.config, range(model.config.n_layer)
    batch, new, past = 2, 3, 4
    cache = torch.zeros(batch, config.n_head, past, config.n_embd // config.n_head)
    names = [f"{layer}.{part}" for layer in layers for part in ("key", "value")]
    arguments = (
        torch.zeros(batch, new, dtype=torch.int64),
        torch.ones(batch, past + new, dtype=torch.int64),
        torch.arange(past, past + new).expand(batch, new),
        [cache.clone() for _ in names],
    )
    free = torch.export.Dim.DYNAMIC
    with _quiet():
        program = torch.onnx.export(
            _Decoder(model).eval(),
            arguments,
            dynamo=True,
            verbose=False,
            input_names=["input_ids", "attention_mask", "position_ids", *(f"past_key_values.{name}" for name in names)],
            output_names=["logits", *(f"present.{name}" for name in names)],
            dynamic_shapes=(*([{0: free, 1: free}] * 3), [{0: free, 2: free} for _ in names]),
        )
    assert program is not None
    proto = program.model_proto
    _forget_origin(proto)
    is_large = proto.ByteSize() > LARGEST_FILE_BYTES
    onnx.save(proto, path, save_as_external_data=is_large, location=f"{FILE}_data")


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide what torch's exporter says of packages and functions that this graph does not use."""
    log = logging.getLogger("torch.onnx")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        with catch_warnings():
            simplefilter("ignore")
            yield
    finally:
        log.setLevel(before)


def _forget_origin(proto: Any) -> None:
    """Remove the traces of this machine that torch leaves at every node: the same model then gives the same bytes."""
    graphs = [proto.graph, *proto.functions]
    for graph in graphs:
        for each in (*graph.node, *getattr(graph, "value_info", ()), graph):
            del each.metadata_props[:]
            each.doc_string = ""
    del proto.metadata_props[:]


def _check(path: Path, model: GPT2LMHeadModel, vocabulary: Vocabulary) -> None:
    """Compare onnxruntime's logits with the model's: all but the last token at once, then that one with the cache."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    config = model.config
    empty = np.zeros((1, config.n_head, 0, config.n_embd // config.n_head), dtype=np.float32)
    names = [each.name for each in session.get_inputs() if each.name.startswith("past_key_values")]
    for ids, wanted in examples(model, vocabulary):
        cache, found = [empty for _ in names], []
        for begin, end in ((0, len(ids) - 1), (len(ids) - 1, len(ids))):
            feed = {
                "input_ids": np.array([ids[begin:end]]),
                "attention_mask": np.ones((1, end), dtype=np.int64),
                "position_ids": np.arange(begin, end)[None],
                **dict(zip(names, cache, strict=True)),
            }
            logits, *cache = session.run(None, feed)
            found.append(logits)
        difference = float(np.abs(np.concatenate(found, axis=1) - wanted.numpy()).max())
        if not difference <= TOLERANCE:
            raise ExportError(f"Logits of onnxruntime differ from the checkpoint's by {difference:.3g}.")
