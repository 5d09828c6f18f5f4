"""The likelihood of the replies of a split under a model.

Every figure is a sum over documents, divided once. A mean of the means of documents or batches would weight a token by
the length of its document or batch.

Everything is computed in float32, on CPUs and GPUs. This costs seconds, and a difference between two runs is then a
difference between their models, not between the arithmetic of two machines.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import GPT2LMHeadModel

from theta.conversation.messages import OTHER_DOMAINS, domains_shown
from theta.errors import BaseModelError, SettingsError
from theta.model.loss import token_scores
from theta.model.rows import Row, predicting_states
from theta.tokens.packing import pack
from theta.tokens.store import Store

Figures = dict[str, float | int | None]


@dataclass(frozen=True, slots=True)
class Scores:
    """Sums over the learned tokens of each document.

    Attributes:
        nats: negative log-likelihood, float64 [documents].
        correct: tokens that the model predicted as the most likely, int64 [documents].
    """

    nats: np.ndarray
    correct: np.ndarray


def measure(
    model: GPT2LMHeadModel, store: Store, vocabulary_size: int, tokens_per_microbatch: int, device: torch.device
) -> Scores:
    """Score every document of a store; several share a forward pass without attending to each other.

    Args:
        model: a float32 model; columns from `vocabulary_size` on are padding.
        tokens_per_microbatch: maximum number of tokens of one forward pass.

    Raises:
        SettingsError: a document does not fit into a microbatch.
        BaseModelError: the model's likelihoods are not finite.
    """
    longest = int(store.lengths.max())
    if longest > tokens_per_microbatch:
        raise SettingsError(
            f"machine.tokens_per_microbatch is {tokens_per_microbatch}, but the longest document of the test split "
            f"has {longest} tokens; raise it to that, or lower tokenizer.max_length."
        )
    scores = Scores(np.zeros(len(store)), np.zeros(len(store), dtype=np.int64))
    training = model.training
    model.to(device).eval()
    for documents in pack(range(len(store)), store.lengths, tokens_per_microbatch):
        _score_row(model, store, documents, vocabulary_size, scores)
    model.train(training)
    if not np.isfinite(scores.nats).all():
        source = store.sources[int(np.flatnonzero(~np.isfinite(scores.nats))[0])]
        raise BaseModelError(f"The model's likelihood of {source} is not finite; its weights are damaged.")
    return scores


@torch.inference_mode()
def _score_row(
    model: GPT2LMHeadModel, store: Store, documents: Sequence[int], vocabulary_size: int, scores: Scores
) -> None:
    row = Row.of(store, documents, model.device)
    nats, correct = token_scores(predicting_states(model, row), model.lm_head.weight, row.targets, vocabulary_size)
    ends = np.cumsum(store.learned_counts[documents])[:-1]
    scores.nats[documents] = [part.sum() for part in np.split(nats.double().cpu().numpy(), ends)]
    scores.correct[documents] = [part.sum() for part in np.split(correct.cpu().numpy(), ends)]


def figures(scores: Scores, store: Store, documents: Sequence[int]) -> Figures:
    """Return the figures of some documents together.

    Returns:
        loss_nats_per_token: the mean over learned tokens, including the end tokens.
        perplexity: exp of the loss; None above 709 nats, where it exceeds a float, because JSON has no infinity.
        bits_per_byte: bits for each UTF-8 byte of the learned text (the end token has no bytes). Models with different
            vocabularies can be compared by it. None if the learned text is empty.
        token_accuracy: fraction of learned tokens that the model predicted as the most likely.
        tokens, documents: the number of learned tokens and of documents.
    """
    chosen = list(documents)
    nats, tokens = float(scores.nats[chosen].sum()), int(store.learned_counts[chosen].sum())
    text_bytes = int(store.learned_bytes[chosen].sum())
    loss = nats / tokens
    return {
        "loss_nats_per_token": loss,
        "perplexity": math.exp(loss) if loss < math.log(np.finfo(float).max) else None,
        "bits_per_byte": nats / math.log(2) / text_bytes if text_bytes else None,
        "token_accuracy": int(scores.correct[chosen].sum()) / tokens,
        "tokens": tokens,
        "documents": len(chosen),
    }


def documents_by_domain(store: Store) -> dict[str, list[int]]:
    """Return the documents of each domain by name; the smaller domains are combined under one name."""
    shown = domains_shown(Counter(store.domains))
    groups: dict[str, list[int]] = {}
    for document, domain in enumerate(store.domains):
        groups.setdefault(domain if domain in shown else OTHER_DOMAINS, []).append(document)
    return dict(sorted(groups.items()))
