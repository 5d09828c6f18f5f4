"""Low-rank adapters (LoRA, Hu et al. 2022) beside the matrices of the blocks, by peft.

A matrix W is left as it is, and W + 2 A B is computed, where A and B have `rank` columns and rows. B starts at zero, so
the model starts as the base.
"""

import torch
from transformers import GPT2LMHeadModel

MATRICES = ("c_attn", "c_proj", "c_fc")
"""Of attention and perceptron; c_proj is a matrix of each."""

ALPHA = 2
"""peft's lora_alpha for each rank: what the product of the two is multiplied by."""


def add_adapters(model: GPT2LMHeadModel, rank: int, first_layer: int, seed: int) -> None:
    """Give adapters to the blocks from `first_layer` on. Nothing else of the model is learned any more."""
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(
        r=rank,
        lora_alpha=ALPHA * rank,
        target_modules=list(MATRICES),
        layers_to_transform=list(range(first_layer, len(model.transformer.h))),
        layers_pattern="h",
        fan_in_fan_out=True,  # transformers' Conv1D holds its matrix transposed
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, model)


def has_adapters(model: GPT2LMHeadModel) -> bool:
    """Whether the model has adapters."""
    return any(".lora_A." in name for name, _ in model.named_parameters())


def merge_adapters(model: GPT2LMHeadModel) -> None:
    """Turn a model with adapters into a plain GPT-2 that computes the same, in float32 on the CPU.

    In bfloat16 a matrix would lose much of what its adapter adds; the CPU has room for float32.
    """
    from peft.tuners.lora import LoraLayer

    model.to("cpu", torch.float32)
    for block in model.transformer.h:
        for part in (block.attn, block.mlp):
            for name, layer in list(part.named_children()):
                if isinstance(layer, LoraLayer):
                    layer.merge()
                    setattr(part, name, layer.get_base_layer())
    del model.peft_config
