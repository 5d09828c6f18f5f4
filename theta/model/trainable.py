"""Which weights are learned: all of them, those above frozen layers, or low-rank adapters of the matrices.

LoRA (Hu et al. 2022) leaves a matrix W as it is and computes W + 2 A B, where A has `rank` columns and B `rank` rows. B
starts at zero, so the model starts as the base. The adapters are peft's.

Where the token embedding is frozen, the rows of the special tokens are still learned. All of them start at the mean of
the old rows, so a model that did not learn them could neither distinguish the speakers nor end a reply.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding
from transformers import GPT2LMHeadModel

from theta.model.loss import LearnedRows
from theta.tokens.vocabulary import SPECIAL_TOKENS_ADDED

MATRICES = ("c_attn", "c_proj", "c_fc")
"""The matrices that get adapters; c_proj is a matrix of the attention and of the MLP."""

ALPHA_PER_RANK = 2
"""peft's `lora_alpha` divided by the rank: the product of the two adapter matrices is multiplied by it."""


def freeze(model: GPT2LMHeadModel, *, frozen_layers: int, lora_rank: int, vocabulary_size: int, seed: int) -> None:
    """Freeze all weights but those to be learned. The model must not change its device or number format afterwards.

    Args:
        frozen_layers: this many blocks from the first one on, and the embeddings, are frozen.
        lora_rank: rank of the adapters that are learned instead of the matrices; 0 learns the matrices themselves.
        vocabulary_size: tokens of the vocabulary, of which the special ones are last.
        seed: of the initial adapters.
    """
    if lora_rank:
        _add_adapters(model, lora_rank, frozen_layers, seed)
    elif frozen_layers:
        for part in (model.transformer.wpe, *model.transformer.h[:frozen_layers]):
            part.requires_grad_(False)
    else:
        return
    model.transformer.wte = SpecialRows(model.transformer.wte, vocabulary_size - SPECIAL_TOKENS_ADDED)


def to_plain_gpt2(model: GPT2LMHeadModel) -> None:
    """Undo `freeze`: make the model a plain GPT-2 with the learned weights, in its present number format.

    Adapters should be merged in float32: in bfloat16 a matrix loses most of what its adapter adds.
    """
    wte = model.transformer.wte
    if isinstance(wte, SpecialRows):
        # After a change of device or number format, `learned` is no longer a view of the matrix.
        wte.whole.weight.data[wte.first : wte.first + len(wte.learned)] = wte.learned.data
        model.transformer.wte = wte.whole
    if any(".lora_A." in name for name, _ in model.named_parameters()):
        _merge_adapters(model)
    model.requires_grad_(True)


class SpecialRows(nn.Module):
    """A token embedding of which only the rows of the special tokens are learned.

    Attributes:
        whole: the complete embedding; its weight [columns, width], also the output matrix, gets no gradient.
        learned: the rows of the special tokens, [SPECIAL_TOKENS_ADDED, width], a view of that weight until the model
            changes its device or number format.
    """

    def __init__(self, whole: nn.Embedding, first: int) -> None:
        super().__init__()
        self.whole, self.first = whole, first
        whole.weight.requires_grad_(False)
        self.learned = nn.Parameter(whole.weight.data[first : first + SPECIAL_TOKENS_ADDED])

    def forward(self, ids: Tensor) -> Tensor:
        """Return the embeddings [..., width] of ids [...]."""
        place = ids - self.first
        special = (place >= 0) & (place < len(self.learned))
        learned = embedding(place.clamp(0, len(self.learned) - 1), self.learned)
        return torch.where(special[..., None], learned, self.whole(ids))


def learned_rows(model: GPT2LMHeadModel) -> LearnedRows | None:
    """The learned rows of the output matrix where the others are frozen; None where all are treated alike."""
    wte = model.transformer.wte
    return LearnedRows(wte.learned, wte.first) if isinstance(wte, SpecialRows) else None


def _add_adapters(model: GPT2LMHeadModel, rank: int, first_layer: int, seed: int) -> None:
    """Add adapters to the blocks from `first_layer` on. No other weight of the model is learned afterwards."""
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(
        r=rank,
        lora_alpha=ALPHA_PER_RANK * rank,
        target_modules=list(MATRICES),
        layers_to_transform=list(range(first_layer, len(model.transformer.h))),
        layers_pattern="h",
        fan_in_fan_out=True,  # transformers' Conv1D holds its matrix transposed
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, model)


def _merge_adapters(model: GPT2LMHeadModel) -> None:
    """Add the product of each pair of adapters to its matrix, and remove the adapters."""
    from peft.tuners.lora import LoraLayer

    for block in model.transformer.h:
        for part in (block.attn, block.mlp):
            for name, layer in list(part.named_children()):
                if isinstance(layer, LoraLayer):
                    layer.merge()
                    setattr(part, name, layer.get_base_layer())
    del model.peft_config
