"""The end of training: keep the weights, mix in a share of the base, and measure the loss of the result.

Everything here is computed in float32. In bfloat16, most weights would not change at all by half a percent, and changes
of that size are what the EMA, a share of the base or an adapter makes.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor
from transformers import GPT2LMHeadModel

from theta.machine.devices import memory_remedy
from theta.model import network
from theta.model.trainable import to_plain_gpt2
from theta.tokens.store import Store
from theta.train.compute import Compute
from theta.train.distributed import ALONE
from theta.train.run import Run


def kept_tensors(model: GPT2LMHeadModel, ema: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights by name, each in memory of its own on the CPU; a weight with an EMA is replaced with it."""
    for name, tensor in model.state_dict().items():
        if not name.startswith("lm_head."):  # the output matrix is the embedding
            yield name, ema.get(name, tensor).detach().to("cpu", copy=True).contiguous()


def keep(run: Run, tensors: Mapping[str, Tensor]) -> None:
    """Make the model a plain GPT-2 in float32 on the CPU with these weights, as `kept_tensors` names them."""
    run.model.zero_grad(set_to_none=True)
    run.model.to("cpu", torch.float32)
    with torch.no_grad():
        mine = run.model.state_dict()
        # The learned rows of an embedding last: on a CPU they share the memory of the whole embedding.
        for name in sorted(tensors, key=lambda name: name.endswith(".learned")):
            mine[name].copy_(tensors[name])
    to_plain_gpt2(run.model)
    run.model.eval()


def finish(run: Run, load_base: Callable[[], GPT2LMHeadModel | None]) -> float | None:
    """Mix `train.base_share` of the base into the trained model, and measure the result.

    Args:
        load_base: returns the base as it is stored, or None for a new model, which has nothing to mix in.

    Returns:
        The validation loss of the finished weights in nats per token; None if nothing is held back. It is computed by
        this process alone, on the device and in the number formats of training.

    Raises:
        OutOfMemoryError: the device has too little memory.
    """
    compute = replace(run.compute, ranks=ALONE, compiled=False, shape=None)
    with memory_remedy(compute.device, "close other programs that use it, or lower machine.tokens_per_microbatch"):
        if run.settings.base_share and (base := load_base()):
            network.mix_in(run.model, base, run.settings.base_share)
            del base  # before the loss needs memory
        if run.validation is None:
            return None
        if compute.device.type == "cuda":
            return _loss_elsewhere(run, run.validation, compute)
        return _loss(run.model, compute, run.validation)


def _loss_elsewhere(run: Run, validation: Store, compute: Compute) -> float:
    """Return the loss, computed on a GPU in the number format of training; the model returns to the CPU unchanged."""
    kept = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    weights = torch.bfloat16 if compute.plan.weights == "bfloat16" else torch.float32
    loss = _loss(run.model.to(compute.device, weights), compute, validation)
    run.model.to("cpu", torch.float32).load_state_dict(kept)
    return loss


@torch.no_grad()
def _loss(model: GPT2LMHeadModel, compute: Compute, validation: Store) -> float:
    """Nats per learned token of the validation split."""
    model.eval()
    nats = torch.zeros((), device=compute.device, dtype=torch.float64)
    for row in compute.validation_rows(validation):
        nats += compute.nats(model, row)[0]
    return nats.item() / int(validation.learned_counts.sum())
