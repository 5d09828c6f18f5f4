"""The predicted memory of a plan against the memory that it really takes."""

import pytest
import torch

from tests.support.runs import SETTINGS
from theta.bases import descriptors
from theta.cli.probe import probe
from theta.memory.forecast import size_of_base
from theta.memory.gpu import this_gpu
from theta.memory.plans import PLANS, Placement, Plan, peak_bytes

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.name)
@pytest.mark.parametrize(("base", "tokens_per_step"), [("gpt2", 4096), ("gpt2-medium", 4096)])
def test_the_peak_is_within_8_percent_of_the_prediction(base: str, tokens_per_step: int, plan: Plan) -> None:
    gpu, shape = this_gpu(), descriptors.shape(base)
    assert gpu is not None
    size = size_of_base(shape)
    # Two microbatches per step, so that gradients are added up, if the plan allows more than one.
    tokens = tokens_per_step if plan.step_in_backward else tokens_per_step // 2 + 64
    predicted = peak_bytes(size, plan, tokens)
    if predicted > gpu.budget or not (gpu.bfloat16 or plan in gpu.plans):
        pytest.skip("this GPU does not run the plan")
    settings = SETTINGS.model_copy(update={"tokens_per_step": tokens_per_step, "dropout": 0.0})
    measured = probe(size, shape["heads"], Placement(plan, tokens, predicted), 512, settings)
    assert predicted == pytest.approx(measured.peak_bytes, rel=0.08)
    assert measured.tokens_per_second > 0
