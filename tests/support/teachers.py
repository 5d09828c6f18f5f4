"""Small teachers: a Llama model with random weights, and one that writes what a test wants."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from gguf import GGUFWriter, TokenType
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from recipes.starter.teacher import END, Shape, Teacher

START = "<|im_start|>"
TOKENS = [*"abcdefghijklmnopqrstuvwxyz0123456789Ġ.?", "Ċ", "he", "Ġhe", "12", START, END]
MERGES = ["h e", "Ġ he", "1 2"]


def random_llama() -> LlamaForCausalLM:
    """Return a model of 2 layers, whose 4 heads share the keys of 2, with weights that bfloat16 represents exactly."""
    config = LlamaConfig(
        vocab_size=len(TOKENS),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        initializer_range=0.2,
        rms_norm_eps=1e-5,
        bos_token_id=None,
        eos_token_id=TOKENS.index(END),
        pad_token_id=TOKENS.index(START),
    )
    with torch.random.fork_rng():
        torch.manual_seed(7)  # the most likely token is clearly ahead of the others
        llama = LlamaForCausalLM(config).eval()
    # The weights only: the model's rotary frequencies stay exact.
    llama.load_state_dict({name: weight.bfloat16().float() for name, weight in llama.state_dict().items()})
    return llama


def write_gguf(path: Path, llama: LlamaForCausalLM) -> None:
    """Write the model in llama.cpp's format."""
    config = llama.config
    writer = GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(TOKENS)
    writer.add_token_merges(MERGES)
    writer.add_token_types([TokenType.CONTROL if token in (START, END) else TokenType.NORMAL for token in TOKENS])
    for name, weight in _stored(llama).items():
        writer.add_tensor(name, weight.numpy().astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _stored(llama: LlamaForCausalLM) -> dict[str, Tensor]:
    """The weights under the names of the format, with queries and keys in its order."""
    state, config = llama.state_dict(), llama.config
    found = {"token_embd.weight": state["model.embed_tokens.weight"], "output_norm.weight": state["model.norm.weight"]}
    names = {
        "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm",
        "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    }  # fmt: skip
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    for layer in range(config.num_hidden_layers):
        for theirs, name in names.items():
            weight = state[f"model.layers.{layer}.{theirs}.weight"]
            found[f"blk.{layer}.{name}.weight"] = _interleaved(weight, heads[name]) if name in heads else weight
    return found


def _interleaved(weight: Tensor, heads: int) -> Tensor:
    """Reorder rows whose rotary pairs are half a head apart, so that pairs are adjacent."""
    rows, columns = weight.shape
    return weight.view(heads, 2, rows // heads // 2, columns).transpose(1, 2).reshape(rows, columns)


def parrot(*sayings: list[str]) -> Teacher:
    """Return a teacher that continues a text with one of some sayings: the one that begins with the text's last token.

    Each embedding is a direction of its own, attention adds nothing, and the last layer turns a token into the next.
    """
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = list(dict.fromkeys([*letters, START, *(token for saying in sayings for token in saying), END]))
    ids = {token: place for place, token in enumerate(tokens)}
    width = len(tokens) + len(tokens) % 2
    eye, following = torch.eye(width), torch.zeros(width, width)
    for saying in sayings:
        for token, then in pairwise([*saying, END]):
            following[ids[then], ids[token]] = 100.0
    zeros, ones = torch.zeros(width, width), torch.ones(width)
    weights = {"token_embd.weight": eye[: len(tokens)], "output_norm.weight": ones}
    weights |= {f"blk.0.{name}.weight": zeros for name in ("attn_q", "attn_k", "attn_v", "attn_output")}
    weights |= {f"blk.0.{name}.weight": ones for name in ("attn_norm", "ffn_norm")}
    weights |= {"blk.0.ffn_gate.weight": eye, "blk.0.ffn_up.weight": eye, "blk.0.ffn_down.weight": following}
    tokenizer = Tokenizer(models.BPE(ids, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([START, END])
    return Teacher(weights, Shape(1, width // 2, width // 2, 2, 1e4, 1e-5), tokenizer)
