"""Negative log-likelihood of the learned tokens, without ever holding all logits.

Logits of 50,257 columns are the largest tensor of a small GPT-2 by far. They are made for the learned positions
only, some rows at a time, and turned at once into their gradient, which overwrites them; so memory does
not grow with the row, and on a CPU the passes over them are made in the cache. (The method of fused linear
cross-entropy: Liger Kernel, Hsu et al. 2024.)
"""

import torch
from torch import Tensor

ROWS_PER_CHUNK = 1024
"""Learned positions whose logits are held at a time: 412 MB in float32 for 50,304 columns."""


class _MeanNats(torch.autograd.Function):
    """Sum of nats over a divisor; the gradients are made in the forward pass."""

    @staticmethod
    def forward(  # type: ignore[no-untyped-def]
        ctx, hidden: Tensor, weight: Tensor, targets: Tensor, vocabulary_size: int, divisor: float
    ) -> Tensor:
        needs_gradient = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        weight_cast = weight.to(hidden.dtype)
        nats = torch.zeros((), dtype=torch.float32, device=hidden.device)
        gradient_hidden, gradient_weight = torch.empty_like(hidden), None
        for begin in range(0, len(targets), ROWS_PER_CHUNK):
            chunk = slice(begin, begin + ROWS_PER_CHUNK)
            logits = _logits(hidden[chunk], weight_cast, vocabulary_size)
            probabilities = torch.softmax(logits, dim=-1, dtype=torch.float32)
            chosen = (torch.arange(len(probabilities), device=hidden.device), targets[chunk])
            # A probability below 1e-38 counts as that: 87 nats, where float32 ends.
            nats -= probabilities[chosen].clamp_min(torch.finfo(torch.float32).tiny).log().sum()
            if needs_gradient:
                probabilities[chosen] -= 1  # d nats / d logits = softmax - one-hot
                gradient_logits = probabilities.div_(divisor).to(hidden.dtype)
                gradient_hidden[chunk] = gradient_logits @ weight_cast
                part = gradient_logits.T @ hidden[chunk]
                gradient_weight = part.to(weight.dtype) if gradient_weight is None else gradient_weight.add_(part)
        ctx.gradients = (gradient_hidden, gradient_weight)
        return nats / divisor

    @staticmethod
    def backward(ctx, scale: Tensor):  # type: ignore[no-untyped-def]
        # In place: the gradient of the weight is as large as the embedding. A second backward would scale twice,
        # so it finds nothing. On a CPU, where the usual scale of 1 can be seen for nothing, even that pass is saved.
        (hidden, weight), ctx.gradients = ctx.gradients, None
        if scale.is_cuda or scale != 1:
            hidden, weight = hidden.mul_(scale), weight.mul_(scale)
        return hidden, weight, None, None, None


def _logits(hidden: Tensor, weight: Tensor, vocabulary_size: int) -> Tensor:
    """[rows, columns]; columns that only pad the matrix cannot be chosen."""
    logits = hidden @ weight.T
    logits[:, vocabulary_size:] = -torch.inf
    return logits


def mean_nats(hidden: Tensor, weight: Tensor, targets: Tensor, vocabulary_size: int, divisor: float) -> Tensor:
    """Sum of the negative log-likelihoods of `targets` in nats, over `divisor`; float32, differentiable once.

    Args:
        hidden: final hidden states of the positions that predict a learned token, [learned, width].
        weight: the (tied) output matrix, [columns, width]; columns from `vocabulary_size` on are padding.
        targets: the tokens that follow, [learned].
        vocabulary_size: number of real tokens.
        divisor: learned tokens of the whole step, of which these may be a part.
    """
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
    with torch.autocast(device, enabled=False):
        nats: Tensor = _MeanNats.apply(hidden.to(dtype), weight, targets, vocabulary_size, divisor)
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
