"""Negative log-likelihood of the learned tokens, without ever holding all logits.

Logits of 50,257 columns are the largest tensor of a small GPT-2 by far. They are computed for the learned positions
only, one chunk at a time, and turned at once into their gradient, which overwrites them. So memory does not grow with
the row, and on a CPU a chunk stays in the cache. (Fused linear cross-entropy: Liger Kernel, Hsu et al. 2024.)
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from theta.model.attention import has_kernel

POSITIONS_PER_BLOCK = 32
"""Positions whose probabilities are held at once in float32, without the kernel: 6 MB, which stay in a CPU's cache."""

CPU_MULTIPLE = 16
"""Rows and positions are padded to a multiple of this many on a CPU: its library compiles a product for each new shape,
in 2 ms for a row and up to 30 ms for the positions, and its matrix units take 16 rows at a time anyway."""


@dataclass(frozen=True, slots=True)
class Loss:
    """How the loss of the learned tokens is computed.

    Attributes:
        vocabulary_size: number of real tokens; further columns of the output matrix only pad it.
        scale: factor of the sum, such as one over the learned tokens of a step; a number, or a float32 scalar on the
            device.
        positions_per_chunk: learned positions whose logits are held at once; 1,024 take 412 MB in float32.
        label_smoothing: fraction of each target's probability that is spread evenly over the real tokens
            (Szegedy et al. 2016).
    """

    vocabulary_size: int
    scale: float | Tensor = 1.0
    positions_per_chunk: int = 1024
    label_smoothing: float = 0.0


@dataclass(frozen=True, slots=True)
class LearnedRows:
    """The learned rows of an output matrix whose other rows are frozen.

    Attributes:
        values: these rows, [rows, width]; their gradient is computed instead of that of the whole matrix.
        first: the first of the rows.
    """

    values: Tensor
    first: int


class _MeanNats(torch.autograd.Function):
    """The scaled sum of the nats, and the nats of each target; the forward pass computes the gradients.

    hidden is [learned, width], weight [columns, width], targets [learned], rows [rows, width] or None.
    """

    @staticmethod
    def forward(  # type: ignore[no-untyped-def]
        ctx, hidden: Tensor, weight: Tensor, targets: Tensor, loss: Loss, rows: Tensor | None, first: int
    ) -> tuple[Tensor, Tensor]:
        needs_hidden, needs_weight = ctx.needs_input_grad[:2]
        needs_rows = ctx.needs_input_grad[4]
        needs_gradient = needs_hidden or needs_weight or needs_rows
        weight_cast = weight.to(hidden.dtype)
        if not has_kernel(hidden.device):
            hidden = pad(hidden, (0, 0, 0, -len(hidden) % CPU_MULTIPLE))
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        each = torch.empty(len(targets), dtype=torch.float32, device=hidden.device)
        gradient_hidden = torch.empty_like(hidden) if needs_hidden else None
        gradient_weight = gradient_rows = None
        for begin in range(0, len(hidden), loss.positions_per_chunk):
            chunk = slice(begin, begin + loss.positions_per_chunk)
            logits = hidden[chunk] @ weight_cast.T
            each[chunk] = _nats_and_gradient(logits, targets[chunk], loss, needs_gradient)
            total += each[chunk].sum()
            if gradient_hidden is not None:
                torch.mm(logits, weight_cast, out=gradient_hidden[chunk])
            if needs_weight:
                gradient_weight = _add_product(gradient_weight, logits.T, hidden[chunk], weight.dtype)
            if rows is not None and needs_rows:
                ours = logits[:, first : first + len(rows)]
                gradient_rows = _add_product(gradient_rows, ours.T, hidden[chunk], rows.dtype)
        if not len(targets):  # a row in which nothing is learned
            gradient_weight = torch.zeros_like(weight) if needs_weight else None
            gradient_rows = torch.zeros_like(rows) if rows is not None and needs_rows else None
        gradient_hidden = gradient_hidden[: len(targets)] if gradient_hidden is not None else None
        ctx.gradients = (gradient_hidden, gradient_weight, gradient_rows)
        ctx.mark_non_differentiable(each)
        return total * loss.scale, each

    @staticmethod
    def backward(ctx, scale: Tensor, _each: Tensor):  # type: ignore[no-untyped-def]
        # In place: the gradient of the weight is as large as the embedding. A second backward would scale twice,
        # so it finds nothing. On a CPU, where reading the scale costs nothing, a scale of 1 saves even that pass.
        gradients, ctx.gradients = ctx.gradients, None
        if scale.is_cuda or scale != 1:
            gradients = tuple(None if gradient is None else gradient.mul_(scale) for gradient in gradients)
        hidden, weight, rows = gradients
        return hidden, weight, None, None, rows, None


def _nats_and_gradient(logits: Tensor, targets: Tensor, loss: Loss, needs_gradient: bool) -> Tensor:
    """Return the nats of some positions, float32 [positions]; the gradient of their scaled sum overwrites the logits.

    Args:
        logits: [positions, columns], with further rows that only pad them; their gradient is zero.
        targets: [positions].
    """
    if has_kernel(logits.device):
        from theta.kernels.cross_entropy import nats_and_gradient_

        scale = torch.as_tensor(loss.scale, dtype=torch.float32, device=logits.device)
        return nats_and_gradient_(logits, targets, loss.vocabulary_size, scale, loss.label_smoothing)
    logits[:, loss.vocabulary_size :] = -torch.inf
    logits[len(targets) :] = 0
    nats = torch.empty(len(targets), dtype=torch.float32, device=logits.device)
    space = logits.new_empty(min(len(targets), POSITIONS_PER_BLOCK), logits.shape[1], dtype=torch.float32)
    for begin in range(0, len(targets), POSITIONS_PER_BLOCK):
        block = slice(begin, begin + POSITIONS_PER_BLOCK)
        count = len(targets[block])
        nats[block] = _block_nats(logits[block][:count], space[:count], targets[block], loss, needs_gradient)
    return nats


def _block_nats(logits: Tensor, space: Tensor, targets: Tensor, loss: Loss, needs_gradient: bool) -> Tensor:
    """Return the nats of a block of positions, float32 [positions]; their gradient overwrites the logits.

    Args:
        logits: [positions, columns].
        space: float32 [positions, columns], overwritten. A new tensor for every block costs more than the softmax.
        targets: [positions].
    """
    probabilities = torch.softmax(space.copy_(logits), dim=-1, out=space)
    chosen = (torch.arange(len(targets), device=logits.device), targets)
    # Smaller probabilities count as 1e-38, the smallest normal float32: 87 nats.
    nats = -probabilities[chosen].clamp_min(torch.finfo(torch.float32).tiny).log()
    if smoothing := loss.label_smoothing:
        # (1 - smoothing) times the nats of the target, plus smoothing times the mean nats of all tokens.
        real = logits[:, : loss.vocabulary_size]
        nats += smoothing * (logits[chosen].float() - real.mean(-1, dtype=torch.float32))
    if needs_gradient:
        probabilities[chosen] -= 1 - smoothing  # d nats / d logits = softmax - the target's probabilities
        if smoothing:
            probabilities[:, : loss.vocabulary_size] -= smoothing / loss.vocabulary_size
        logits.copy_(probabilities.mul_(loss.scale))
    return nats


def _add_product(total: Tensor | None, a: Tensor, b: Tensor, dtype: torch.dtype) -> Tensor:
    """Return total + a @ b in `dtype`, [rows, width]; in equal formats the matrix product itself adds, in float32.

    Args:
        total: [rows, width]; None counts as zero. It is overwritten.
        a: [rows, positions].
        b: [positions, width].
    """
    if total is None:
        return (a @ b).to(dtype)
    return total.addmm_(a, b) if a.dtype == dtype else total.add_(a @ b)


def mean_nats(
    hidden: Tensor, weight: Tensor, targets: Tensor, loss: Loss, learned: LearnedRows | None = None
) -> tuple[Tensor, Tensor]:
    """Compute the negative log-likelihoods of `targets` in nats.

    Args:
        hidden: final hidden states of the positions that predict a learned token, [learned, width].
        weight: the (tied) output matrix, [columns, width].
        targets: the tokens that follow, [learned].
        learned: the learned rows of a `weight` that is otherwise frozen.

    Returns:
        The sum times the scale, a float32 scalar that can be differentiated once; and the nats of each target without
        a gradient, float32 [learned].
    """
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
    with torch.autocast(device, enabled=False):
        rows, first = (learned.values, learned.first) if learned else (None, 0)
        total, each = _MeanNats.apply(hidden.to(dtype), weight, targets, loss, rows, first)
    return total, each


@torch.no_grad()
def token_scores(
    hidden: Tensor, weight: Tensor, targets: Tensor, vocabulary_size: int, positions_per_chunk: int = 1024
) -> tuple[Tensor, Tensor]:
    """Return for each target its nats (float32) and whether it was the most likely token, both [learned].

    The arguments are those of `mean_nats`.
    """
    nats, correct = [], []
    weight_cast = weight.to(hidden.dtype)
    for rows, wanted in zip(hidden.split(positions_per_chunk), targets.split(positions_per_chunk), strict=True):
        logits = (rows @ weight_cast.T).float()
        logits[:, vocabulary_size:] = -torch.inf
        nats.append(logits.logsumexp(-1) - logits.gather(-1, wanted[:, None])[:, 0])
        correct.append(logits.argmax(-1) == wanted)
    return torch.cat(nats), torch.cat(correct)
