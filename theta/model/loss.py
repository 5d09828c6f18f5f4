"""Negative log-likelihood of the learned tokens, without ever holding all logits.

Logits of 50,257 columns are the largest tensor of a small GPT-2 by far. They are made for the learned positions
only, some rows at a time, and turned at once into their gradient, which overwrites them; so memory does
not grow with the row, and on a CPU the passes over them are made in the cache. (The method of fused linear
cross-entropy: Liger Kernel, Hsu et al. 2024.)
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from theta.model.attention import has_kernel


@dataclass(frozen=True, slots=True)
class Loss:
    """What is summed up over the learned tokens.

    Attributes:
        vocabulary_size: number of real tokens; further columns of the output matrix only pad it.
        share: what the sum is multiplied by: 1 over the learned tokens of a whole step, of which a row holds a part;
            a number, or a float32 scalar on the device.
        rows_per_chunk: learned positions whose logits are held at a time; 1,024 take 412 MB in float32.
        label_smoothing: share of each target's probability that is spread evenly over the real tokens (Szegedy et al.
            2016).
    """

    vocabulary_size: int
    share: float | Tensor = 1.0
    rows_per_chunk: int = 1024
    label_smoothing: float = 0.0


@dataclass(frozen=True, slots=True)
class LearnedRows:
    """The rows of an output matrix that are learned where the others are not.

    Attributes:
        values: what stands in these rows, [rows, width]; its gradient is made instead of the whole matrix's.
        first: the first of the rows.
    """

    values: Tensor
    first: int


class _MeanNats(torch.autograd.Function):
    """Share of a sum of nats; the gradients are made in the forward pass."""

    @staticmethod
    def forward(  # type: ignore[no-untyped-def]
        ctx, hidden: Tensor, weight: Tensor, targets: Tensor, loss: Loss, rows: Tensor | None, first: int
    ) -> Tensor:
        needs_hidden, needs_weight = ctx.needs_input_grad[:2]
        needs_rows = ctx.needs_input_grad[4]
        needs_gradient = needs_hidden or needs_weight or needs_rows
        weight_cast = weight.to(hidden.dtype)
        nats = torch.zeros((), dtype=torch.float32, device=hidden.device)
        gradient_hidden = torch.empty_like(hidden) if needs_hidden else None
        gradient_weight = gradient_rows = None
        for begin in range(0, len(targets), loss.rows_per_chunk):
            chunk = slice(begin, begin + loss.rows_per_chunk)
            logits = hidden[chunk] @ weight_cast.T
            part_nats, gradient_logits = _nats_and_gradient(logits, targets[chunk], loss, needs_gradient)
            nats += part_nats
            if gradient_hidden is not None:
                torch.mm(gradient_logits, weight_cast, out=gradient_hidden[chunk])
            if needs_weight:
                gradient_weight = _add_product(gradient_weight, gradient_logits.T, hidden[chunk], weight.dtype)
            if rows is not None and needs_rows:
                ours = gradient_logits[:, first : first + len(rows)]
                gradient_rows = _add_product(gradient_rows, ours.T, hidden[chunk], rows.dtype)
        if not len(targets):  # a row in which nothing is learned
            gradient_weight = torch.zeros_like(weight) if needs_weight else None
            gradient_rows = torch.zeros_like(rows) if rows is not None and needs_rows else None
        ctx.gradients = (gradient_hidden, gradient_weight, gradient_rows)
        return nats * loss.share

    @staticmethod
    def backward(ctx, scale: Tensor):  # type: ignore[no-untyped-def]
        # In place: the gradient of the weight is as large as the embedding. A second backward would scale twice,
        # so it finds nothing. On a CPU, where the usual scale of 1 can be seen for nothing, even that pass is saved.
        gradients, ctx.gradients = ctx.gradients, None
        if scale.is_cuda or scale != 1:
            gradients = tuple(None if gradient is None else gradient.mul_(scale) for gradient in gradients)
        hidden, weight, rows = gradients
        return hidden, weight, None, None, rows, None


def _nats_and_gradient(logits: Tensor, targets: Tensor, loss: Loss, needs_gradient: bool) -> tuple[Tensor, Tensor]:
    """Sum of the nats of some rows, and the gradient with respect to their logits, which overwrites them."""
    if has_kernel(logits.device):
        from theta.kernels.cross_entropy import nats_and_gradient_

        share = torch.as_tensor(loss.share, dtype=torch.float32, device=logits.device)
        return nats_and_gradient_(logits, targets, loss.vocabulary_size, share, loss.label_smoothing).sum(), logits
    logits[:, loss.vocabulary_size :] = -torch.inf
    probabilities = torch.softmax(logits, dim=-1, dtype=torch.float32)
    chosen = (torch.arange(len(targets), device=logits.device), targets)
    # A probability below 1e-38 counts as that: 87 nats, where float32 ends.
    nats = -probabilities[chosen].clamp_min(torch.finfo(torch.float32).tiny).log().sum()
    if smoothing := loss.label_smoothing:
        # From the nats of the target to (1 - smoothing) of them and smoothing of the mean of all tokens' nats.
        real = logits[:, : loss.vocabulary_size]
        nats += smoothing * (logits[chosen].float() - real.mean(-1, dtype=torch.float32)).sum()
    if needs_gradient:
        probabilities[chosen] -= 1 - smoothing  # d nats / d logits = softmax - the target's probabilities
        if smoothing:
            probabilities[:, : loss.vocabulary_size] -= smoothing / loss.vocabulary_size
        logits = probabilities.mul_(loss.share).to(logits.dtype)
    return nats, logits


def _add_product(total: Tensor | None, a: Tensor, b: Tensor, dtype: torch.dtype) -> Tensor:
    """total + a @ b in `dtype`; the product is added up in float32 inside the matrix multiplication if it can be."""
    if total is None:
        return (a @ b).to(dtype)
    return total.addmm_(a, b) if a.dtype == dtype else total.add_(a @ b)


def mean_nats(
    hidden: Tensor, weight: Tensor, targets: Tensor, loss: Loss, learned: LearnedRows | None = None
) -> Tensor:
    """Sum of the negative log-likelihoods of `targets` in nats, times the share; float32, differentiable once.

    Args:
        hidden: final hidden states of the positions that predict a learned token, [learned, width].
        weight: the (tied) output matrix, [columns, width].
        targets: the tokens that follow, [learned].
        learned: the rows of a fixed `weight` that are learned.
    """
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
    with torch.autocast(device, enabled=False):
        rows, first = (learned.values, learned.first) if learned else (None, 0)
        nats: Tensor = _MeanNats.apply(hidden.to(dtype), weight, targets, loss, rows, first)
    return nats


@torch.no_grad()
def token_scores(
    hidden: Tensor, weight: Tensor, targets: Tensor, vocabulary_size: int, rows_per_chunk: int = 1024
) -> tuple[Tensor, Tensor]:
    """For each target its nats (float32) and whether it was the likeliest token, both [learned]."""
    nats, correct = [], []
    weight_cast = weight.to(hidden.dtype)
    for rows, wanted in zip(hidden.split(rows_per_chunk), targets.split(rows_per_chunk), strict=True):
        logits = (rows @ weight_cast.T).float()
        logits[:, vocabulary_size:] = -torch.inf
        nats.append(logits.logsumexp(-1) - logits.gather(-1, wanted[:, None])[:, 0])
        correct.append(logits.argmax(-1) == wanted)
    return torch.cat(nats), torch.cat(correct)
