"""A row: several documents laid end to end, and the nats of its learned tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import GPT2LMHeadModel

from theta.model.attention import Packing
from theta.model.loss import mean_nats
from theta.tokens.store import IGNORED, Store


@dataclass(frozen=True, slots=True)
class Row:
    """Documents laid end to end.

    Attributes:
        ids: [1, tokens].
        packing: where the documents begin and end.
        predicting: positions whose next token is learned, [learned].
        targets: those next tokens, [learned].
    """

    ids: Tensor
    packing: Packing
    predicting: Tensor
    targets: Tensor

    @classmethod
    def of(cls, store: Store, documents: Sequence[int], device: torch.device) -> "Row":
        """The row of these documents of a store, on a device."""
        pairs = [store[document] for document in documents]
        ids = np.concatenate([ids for ids, _ in pairs])
        # Shift by one inside each document: its first token is predicted by nothing, its last predicts nothing.
        next_labels = np.concatenate([np.append(labels[1:], IGNORED) for _, labels in pairs])
        predicting = np.flatnonzero(next_labels != IGNORED)
        return cls(
            torch.from_numpy(ids).long()[None].to(device),
            Packing.of([len(ids) for ids, _ in pairs], device),
            torch.from_numpy(predicting).to(device),
            torch.from_numpy(next_labels[predicting]).long().to(device),
        )


def predicting_states(model: GPT2LMHeadModel, row: Row) -> Tensor:
    """Final hidden states of the positions that predict a learned token, [learned, width]."""
    output = model.transformer(
        input_ids=row.ids, position_ids=row.packing.position_ids, packing=row.packing, use_cache=False
    )
    states: Tensor = output.last_hidden_state[0, row.predicting]
    return states


def row_nats(model: GPT2LMHeadModel, row: Row, vocabulary_size: int, divisor: float = 1) -> Tensor:
    """Sum of the nats of the row's learned tokens, over `divisor`."""
    return mean_nats(predicting_states(model, row), model.lm_head.weight, row.targets, vocabulary_size, divisor)
