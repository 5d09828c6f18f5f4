"""A token embedding of which only the rows of the special tokens are learned.

Where the base's own embedding stays as it is, its new rows must not: all of them start at the mean of the old ones, so
the model could neither tell who speaks nor say that it has ended.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding
from transformers import GPT2LMHeadModel

from theta.model.loss import LearnedRows
from theta.tokens.vocabulary import SPECIAL_TOKENS_ADDED


class SpecialRows(nn.Module):
    """Stands in the place of a token embedding.

    Attributes:
        whole: the embedding; its weight, which is the output matrix too, gets no gradient.
        learned: the rows of the special tokens, a view of that weight, so what is learned stands in both.
    """

    def __init__(self, whole: nn.Embedding, first: int) -> None:
        super().__init__()
        self.whole, self.first = whole, first
        whole.weight.requires_grad_(False)
        self.learned = nn.Parameter(whole.weight.data[first : first + SPECIAL_TOKENS_ADDED])

    def forward(self, ids: Tensor) -> Tensor:
        """As the embedding's."""
        place = ids - self.first
        special = (place >= 0) & (place < len(self.learned))
        learned = embedding(place.clamp(0, len(self.learned) - 1), self.learned)
        return torch.where(special[..., None], learned, self.whole(ids))


def learn_special_rows(model: GPT2LMHeadModel, vocabulary_size: int) -> None:
    """Of the token embedding learn the special tokens only. The model must not change device or type afterwards."""
    model.transformer.wte = SpecialRows(model.transformer.wte, vocabulary_size - SPECIAL_TOKENS_ADDED)


def learned_rows(model: GPT2LMHeadModel) -> LearnedRows | None:
    """The rows that are learned where the others are not; None where the whole embedding is treated alike."""
    wte = model.transformer.wte
    return LearnedRows(wte.learned, wte.first) if isinstance(wte, SpecialRows) else None


def restore_embedding(model: GPT2LMHeadModel) -> None:
    """Undo `learn_special_rows`; what was learned stays."""
    if isinstance(model.transformer.wte, SpecialRows):
        model.transformer.wte = model.transformer.wte.whole
