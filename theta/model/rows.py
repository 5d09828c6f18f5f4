"""A row: several documents laid end to end, and the nats of its learned tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from transformers import GPT2LMHeadModel

from theta.machine.devices import to_device
from theta.model.attention import Packing
from theta.model.forward import EAGER, Passes, hidden_states
from theta.model.loss import CPU_MULTIPLE, Loss, mean_nats
from theta.model.trainable import learned_rows
from theta.tokens.store import IGNORED

PADDING_LENGTH = 64
"""Padding is laid out as documents of this length, which cost the attention next to nothing."""


class Examples(Protocol):
    """What rows are made of: the documents of a `theta.tokens.store.Store`, or the samples of a training run."""

    lengths: np.ndarray
    learned_counts: np.ndarray
    split_size: int

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[np.ndarray, np.ndarray]: ...


@dataclass(frozen=True, slots=True)
class Shape:
    """The shape that all rows share where work on them is compiled or recorded.

    Attributes:
        tokens: of a row; those after the documents are padding.
        blocks: entries of the attention kernel's table.
        learned: entries of the positions that predict; spare entries have no target.
    """

    tokens: int
    blocks: int
    learned: int


@dataclass(frozen=True, slots=True)
class Row:
    """Documents laid end to end.

    Attributes:
        ids: [1, tokens].
        packing: where the documents begin and end.
        predicting: positions whose next token is learned, [learned].
        targets: those next tokens, [learned]; IGNORED where there is none.
        rehearsed: 1 where the target belongs to a document for rehearsal, else 0, float32 [learned].
    """

    ids: Tensor
    packing: Packing
    predicting: Tensor
    targets: Tensor
    rehearsed: Tensor

    @classmethod
    def of(cls, examples: Examples, chosen: Sequence[int], device: torch.device, shape: Shape | None = None) -> "Row":
        """Return the row of these examples, on a device; padded at its end to the shape, or a little on a CPU.

        A row without examples is only padding, and nothing in it is learned.
        """
        pairs = [examples[each] for each in chosen]
        lengths = [len(ids) for ids, _ in pairs]
        padding = _padding(sum(lengths), shape, device)
        ids = np.concatenate([*(ids for ids, _ in pairs), np.zeros(padding, np.int32)])
        # Shift by one inside each document: its first token is predicted by nothing, its last predicts nothing.
        next_labels = np.concatenate([np.zeros(0, np.int32), *(np.append(labels[1:], IGNORED) for _, labels in pairs)])
        predicting = np.flatnonzero(next_labels != IGNORED)
        targets = next_labels[predicting].astype(np.int64)
        for_rehearsal = np.repeat(np.asarray(chosen, dtype=np.int64) >= examples.split_size, lengths)
        rehearsed = for_rehearsal[predicting].astype(np.float32)
        if shape:
            spare = (0, shape.learned - len(predicting))
            predicting, targets = np.pad(predicting, spare), np.pad(targets, spare, constant_values=IGNORED)
            rehearsed = np.pad(rehearsed, spare)
        return cls(
            to_device(torch.from_numpy(ids[None].astype(np.int64)), device),
            Packing.of([*lengths, *_filling(padding)], device, shape.blocks if shape else None),
            to_device(torch.from_numpy(predicting), device),
            to_device(torch.from_numpy(targets), device),
            to_device(torch.from_numpy(rehearsed), device),
        )


def _padding(tokens: int, shape: Shape | None, device: torch.device) -> int:
    """Return how many tokens follow those of the documents."""
    if shape:
        return shape.tokens - tokens
    if not tokens:
        return PADDING_LENGTH
    return -tokens % CPU_MULTIPLE if device.type == "cpu" else 0


def _filling(padding: int) -> list[int]:
    """Lengths of the documents that the padding consists of."""
    return [PADDING_LENGTH] * (padding // PADDING_LENGTH) + [padding % PADDING_LENGTH] * (padding % PADDING_LENGTH > 0)


def predicting_states(model: GPT2LMHeadModel, row: Row, passes: Passes = EAGER) -> Tensor:
    """Return the final hidden states of the positions that predict a learned token, [learned, width]."""
    return hidden_states(model, row.ids, row.packing, passes)[0].index_select(0, row.predicting)


def row_nats(model: GPT2LMHeadModel, row: Row, loss: Loss, passes: Passes = EAGER) -> tuple[Tensor, Tensor]:
    """Compute the nats of the row's learned tokens, times the scale of the loss.

    Returns:
        The sum, a differentiable scalar; and, without a gradient, the parts of the data and of rehearsal, [2].
    """
    states = predicting_states(model, row, passes)
    total, each = mean_nats(states, model.lm_head.weight, row.targets, loss, learned_rows(model))
    rehearsal = (each * row.rehearsed).sum() * loss.scale
    return total, torch.stack([total.detach() - rehearsal, rehearsal])
