"""GGUF: the format of llama.cpp and of the programs built on it, such as Ollama and LM Studio.

Written with llama.cpp's own package `gguf`, under the names that its converter gives to a GPT-2
(https://github.com/ggml-org/ggml/blob/master/docs/gguf.md). A file holds the weights, the tokenizer with its special
tokens, the chat template, and the recommended sampling parameters. Nothing else is needed to talk to the model.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from theta.conversation.template import ASSISTANT, CHAT_TEMPLATE, END
from theta.errors import ExportError
from theta.files import write_text, writing
from theta.generate.settings import GenerationSettings
from theta.tokens.vocabulary import END_OF_TEXT, Vocabulary, splits_as_gpt2

if TYPE_CHECKING:
    from gguf import GGMLQuantizationType, GGUFWriter
    from transformers import GPT2LMHeadModel

F16, Q8_0 = "model-f16.gguf", "model-q8_0.gguf"
"""The two files: numbers of 16 bits, and matrices in blocks of 32 numbers of 8 bits with a scale."""
MODELFILE = "Modelfile"

NAMES = {
    "wte": "token_embd",
    "wpe": "position_embd",
    "ln_f": "output_norm",
    "ln_1": "attn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}
"""llama.cpp's names of the tensors of a layer and around the layers."""
TANH_GELUS = ("gelu_new", "gelu_pytorch_tanh", "gelu_fast")
"""Activations that are llama.cpp's for this architecture."""


def write(folder: Path, model: "GPT2LMHeadModel", vocabulary: Vocabulary, generation: GenerationSettings) -> None:
    """Write both files and a Modelfile into a new folder.

    Args:
        folder: must not exist.
        model: in float32 on the CPU, with as many embeddings as the vocabulary has tokens.
        generation: the sampling parameters that the files recommend.

    Raises:
        ExportError: llama.cpp does not compute such a model, or its weights are beyond the range of 16 bits.
        StorageError: a file cannot be written.
    """
    from gguf import GGMLQuantizationType, LlamaFileType

    _check_is_known(model, vocabulary)
    folder.mkdir()
    for name, kind, file_type in (
        (F16, GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
        (Q8_0, GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
    ):
        with writing(folder / name):
            _write_file(folder / name, model, vocabulary, generation, kind, file_type)
        _check(folder / name, model)
    write_text(folder / MODELFILE, modelfile(generation, model.config.n_positions))


def modelfile(generation: GenerationSettings, positions: int) -> str:
    """Return the recipe from which `ollama create` makes a model.

    Ollama reads its own template language, Go's, and not the chat template of the GGUF file
    (https://github.com/ollama/ollama/blob/main/docs/modelfile.md).
    """
    turn = "<|{{ .Role }}|>{{ .Content }}" + END
    return "\n".join([
        f"FROM ./{Q8_0}",
        f'TEMPLATE """{{{{ range .Messages }}}}{turn}{{{{ end }}}}{ASSISTANT}"""',
        f'PARAMETER stop "{END}"',
        f"PARAMETER num_ctx {positions}",
        f"PARAMETER num_predict {generation.max_length}",
        f"PARAMETER temperature {generation.temperature}",
        f"PARAMETER top_p {generation.top_p}",
        f"PARAMETER top_k {generation.top_k}",
        f"PARAMETER repeat_penalty {generation.repetition_penalty}",
        "",
    ])  # fmt: skip


def _check_is_known(model: "GPT2LMHeadModel", vocabulary: Vocabulary) -> None:
    config = model.config
    if not splits_as_gpt2(json.loads(vocabulary.tokenizer.to_str())):
        raise ExportError(
            "GGUF has no name for the way this base splits text, and llama.cpp would read it differently; "
            "remove gguf from export.formats."
        )
    if config.activation_function not in TANH_GELUS:
        raise ExportError(
            f"llama.cpp computes GPT-2 with the activation function {TANH_GELUS[0]}, and this model has "
            f"{config.activation_function}; remove gguf from export.formats."
        )
    if config.scale_attn_by_inverse_layer_idx or not config.scale_attn_weights:
        raise ExportError(
            "llama.cpp scales attention as OpenAI's GPT-2 does, and this model's config.json says otherwise; "
            "remove gguf from export.formats."
        )


def _write_file(
    path: Path,
    model: "GPT2LMHeadModel",
    vocabulary: Vocabulary,
    generation: GenerationSettings,
    kind: "GGMLQuantizationType",
    file_type: int,
) -> None:
    """Write one tensor at a time: the file may be larger than the memory that is left."""
    from gguf import GGUFWriter, quant_shape_to_byte_shape, quantize

    writer = GGUFWriter(path, "gpt2")
    try:
        _add_shape(writer, model.config, file_type)
        _add_tokenizer(writer, vocabulary)
        writer.add_sampling_temp(generation.temperature)
        writer.add_sampling_top_p(generation.top_p)
        writer.add_sampling_top_k(generation.top_k)
        writer.add_sampling_penalty_repeat(generation.repetition_penalty)
        for name, tensor in _tensors(model):
            stored = _stored_as(name, tensor, kind)
            size = int(np.prod(quant_shape_to_byte_shape(tensor.shape, stored)))
            writer.add_tensor_info(name, tensor.shape, tensor.dtype, size, raw_dtype=stored)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for name, tensor in _tensors(model):
            with np.errstate(over="ignore"):  # `_check` refuses what is infinite
                writer.write_tensor_data(quantize(tensor, _stored_as(name, tensor, kind)))
    finally:
        writer.close()


def _add_shape(writer: "GGUFWriter", config: Any, file_type: int) -> None:
    from gguf import GGML_QUANT_VERSION

    writer.add_type("model")
    writer.add_context_length(config.n_positions)
    writer.add_embedding_length(config.n_embd)
    writer.add_block_count(config.n_layer)
    writer.add_feed_forward_length(config.n_inner or 4 * config.n_embd)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)
    writer.add_file_type(file_type)
    writer.add_quantization_version(GGML_QUANT_VERSION)


def _add_tokenizer(writer: "GGUFWriter", vocabulary: Vocabulary) -> None:
    from gguf import TokenType

    ids = vocabulary.tokenizer.get_vocab(with_added_tokens=True)
    types = dict.fromkeys(range(vocabulary.size), TokenType.NORMAL)
    for id_, token in vocabulary.tokenizer.get_added_tokens_decoder().items():
        types[id_] = TokenType.CONTROL if token.special else TokenType.USER_DEFINED
    merges = json.loads(vocabulary.tokenizer.to_str())["model"]["merges"]
    end_of_text = ids.get(END_OF_TEXT, vocabulary.end_id)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(sorted(ids, key=ids.__getitem__))
    writer.add_token_types([types[id_] for id_ in range(vocabulary.size)])
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    writer.add_bos_token_id(end_of_text)
    writer.add_eos_token_id(vocabulary.end_id)
    writer.add_unk_token_id(end_of_text)
    writer.add_pad_token_id(vocabulary.pad_id)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def _tensors(model: "GPT2LMHeadModel") -> Iterator[tuple[str, np.ndarray]]:
    """Yield llama.cpp's names with arrays in float32; its matrices are [out, in], those of GPT-2's layers [in, out]."""
    for name, tensor in model.transformer.state_dict().items():
        layer, place = ("", name) if not name.startswith("h.") else name.removeprefix("h.").split(".", 1)
        part, kind = place.rsplit(".", 1)
        array = tensor.float().numpy()
        is_layers_matrix = bool(layer) and array.ndim == 2
        yield f"{f'blk.{layer}.' if layer else ''}{NAMES[part]}.{kind}", array.T.copy() if is_layers_matrix else array


def _stored_as(name: str, tensor: np.ndarray, kind: "GGMLQuantizationType") -> "GGMLQuantizationType":
    """The format of one tensor: vectors and positions keep 32 bits, which costs little."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    if tensor.ndim == 1 or name.startswith(NAMES["wpe"]):
        return GGMLQuantizationType.F32
    block_size, _ = GGML_QUANT_SIZES[kind]
    return kind if tensor.shape[-1] % block_size == 0 else GGMLQuantizationType.F16


def _check(path: Path, model: "GPT2LMHeadModel") -> None:
    """Read the file back, and compare every tensor with the model's, within the rounding of its format."""
    from gguf import GGMLQuantizationType, GGUFReader, dequantize

    stored = {tensor.name: tensor for tensor in GGUFReader(path).tensors}
    for name, wanted in _tensors(model):
        kind = stored[name].tensor_type
        with np.errstate(over="ignore"):
            found = dequantize(stored[name].data, kind).reshape(wanted.shape)
        if not np.isfinite(found).all():
            raise ExportError(f"{name} has values beyond the range of 16 bits; remove gguf from export.formats.")
        allowed: Any = np.abs(wanted) * 2.0**-11 + 2.0**-25
        if kind == GGMLQuantizationType.Q8_0:  # half of a step of 1/127 of the block's largest value, itself in 16 bits
            largest = np.abs(wanted).reshape(*wanted.shape[:-1], -1, 32).max(axis=-1)
            allowed = np.repeat(largest / 127 * (0.5 + 127 * 2.0**-11) + 2.0**-17, 32, axis=-1)
        if not (np.abs(found - wanted) <= allowed).all():
            raise ExportError(f"{name} in {path.name} differs from the checkpoint's by more than rounding explains.")
