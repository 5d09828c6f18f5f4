"""Negative log-likelihood of the learned tokens, without ever holding all logits.

Logits of 50,257 columns are the largest tensor of a small GPT-2 by far. They are made for the learned positions
only, a few hundred rows at a time, and turned at once into their gradient, which overwrites them; so memory does
not grow with the row, and on a CPU the passes over them are made in the cache. (The method of fused linear
cross-entropy: Liger Kernel, Hsu et al. 2024.)
"""

import torch
from torch import Tensor

ROWS_PER_CHUNK = 1024
"""Learned positions whose logits are held at a time. On 2 CPU cores 512 was fastest of 128 to 3,072."""


class _LearnedNats(torch.autograd.Function):
    """Sum of nats; the gradients are made in the forward pass and scaled in the backward pass."""

    @staticmethod
    def forward(ctx, hidden: Tensor, weight: Tensor, targets: Tensor, vocabulary_size: int) -> Tensor:  # type: ignore[no-untyped-def]
        needs_gradient = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        weight_cast = weight.to(hidden.dtype)
        nats = torch.zeros((), dtype=torch.float32, device=hidden.device)
        gradients = (torch.empty_like(hidden), torch.zeros_like(weight)) if needs_gradient else None
        for begin in range(0, len(targets), ROWS_PER_CHUNK):
            chunk = slice(begin, begin + ROWS_PER_CHUNK)
            probabilities = torch.softmax(
                _logits(hidden[chunk], weight_cast, vocabulary_size), dim=-1, dtype=torch.float32
            )
            chosen = (torch.arange(len(probabilities), device=hidden.device), targets[chunk])
            # A probability below 1e-38 counts as that: 87 nats, where float32 ends.
            nats -= probabilities[chosen].clamp_min(torch.finfo(torch.float32).tiny).log().sum()
            if gradients is not None:
                probabilities[chosen] -= 1  # d nats / d logits = softmax - one-hot
                gradient_logits = probabilities.to(hidden.dtype)
                gradients[0][chunk] = gradient_logits @ weight_cast
                gradients[1].add_(gradient_logits.T @ hidden[chunk])
        ctx.gradients = gradients
        return nats

    @staticmethod
    def backward(ctx, scale: Tensor):  # type: ignore[no-untyped-def]
        # In place: the gradient of the weight is as large as the embedding. A second backward would scale twice,
        # so it finds nothing.
        (hidden, weight), ctx.gradients = ctx.gradients, None
        return hidden.mul_(scale), weight.mul_(scale), None, None


def _logits(hidden: Tensor, weight: Tensor, vocabulary_size: int) -> Tensor:
    """[rows, columns]; columns that only pad the matrix cannot be chosen."""
    logits = hidden @ weight.T
    logits[:, vocabulary_size:] = -torch.inf
    return logits


def learned_nats(hidden: Tensor, weight: Tensor, targets: Tensor, vocabulary_size: int) -> Tensor:
    """Sum of the negative log-likelihoods of `targets`, in nats; float32, differentiable once.

    Args:
        hidden: final hidden states of the positions that predict a learned token, [learned, width].
        weight: the (tied) output matrix, [columns, width]; columns from `vocabulary_size` on are padding.
        targets: the tokens that follow, [learned].
        vocabulary_size: number of real tokens.
    """
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
    with torch.autocast(device, enabled=False):
        nats: Tensor = _LearnedNats.apply(hidden.to(dtype), weight, targets, vocabulary_size)
    return nats


@torch.no_grad()
def token_scores(hidden: Tensor, weight: Tensor, targets: Tensor, vocabulary_size: int) -> tuple[Tensor, Tensor]:
    """For each target its nats (float32) and whether it was the likeliest token, both [learned]."""
    nats, correct = [], []
    weight_cast = weight.to(hidden.dtype)
    for rows, wanted in zip(hidden.split(ROWS_PER_CHUNK), targets.split(ROWS_PER_CHUNK), strict=True):
        logits = _logits(rows, weight_cast, vocabulary_size).float()
        nats.append(logits.logsumexp(-1) - logits.gather(-1, wanted[:, None])[:, 0])
        correct.append(logits.argmax(-1) == wanted)
    return torch.cat(nats), torch.cat(correct)
