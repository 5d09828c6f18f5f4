"""The Triton kernels against plain torch: on a GPU, or slowly in Triton's interpreter with TRITON_INTERPRET=1."""

import os

import pytest
import torch
from torch.nn.functional import cross_entropy, scaled_dot_product_attention

from theta.kernels.blocks import block_table, blocks_of
from theta.model import network
from theta.model.attention import Packing
from theta.model.forward import EAGER, Passes, hidden_states

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = torch.device("cpu" if INTERPRETED else "cuda")

needs_triton = [
    pytest.mark.gpu,
    pytest.mark.skipif(not (INTERPRETED or torch.cuda.is_available()), reason="needs a CUDA device"),
    # The interpreter computes with numpy, also where a block extends beyond the data and nothing is stored.
    pytest.mark.filterwarnings("ignore:.* encountered in .*:RuntimeWarning"),
]


def test_the_table_lists_blocks_of_documents() -> None:
    table = block_table([70, 1, 64], blocks=6)
    assert blocks_of([70, 1, 64]) == 4
    expected = [[0, 70, 0], [0, 70, 64], [70, 71, 70], [71, 135, 71], [0, 0, 0], [0, 0, 0]]
    assert table.tolist() == expected


class TestAttention:
    pytestmark = needs_triton

    @pytest.mark.parametrize(("heads", "width"), [(2, 16), (2, 64), (1, 80), (1, 128)])
    def test_equals_attention_of_each_document(self, heads: int, width: int) -> None:
        from theta.kernels.attention import attend

        torch.manual_seed(0)
        lengths = [1, 63, 64, 65, 130]
        dtype, tolerance = (torch.float32, 1e-5) if INTERPRETED else (torch.bfloat16, 2e-2)
        qkv = torch.randn(sum(lengths), 3 * heads * width, device=DEVICE, dtype=dtype, requires_grad=True)
        weights = torch.randn(sum(lengths), heads * width, device=DEVICE, dtype=dtype)
        bias = torch.zeros(3 * heads * width, device=DEVICE, dtype=dtype, requires_grad=True)
        table = block_table(lengths, blocks_of(lengths) + 2).to(DEVICE)
        ours = attend(qkv, table, heads, width**-0.5, bias)
        (ours * weights).sum().backward()
        exact = qkv.detach().float().requires_grad_()
        parts = exact.view(len(qkv), 3, heads, width).permute(1, 2, 0, 3).split(lengths, dim=2)
        outputs = [scaled_dot_product_attention(query, key, value, is_causal=True) for query, key, value in parts]
        reference = torch.cat(outputs, dim=1).transpose(0, 1).flatten(1)
        (reference * weights.float()).sum().backward()
        assert (ours.float() - reference).norm() < tolerance * reference.norm()
        assert qkv.grad is not None
        assert exact.grad is not None
        assert (qkv.grad.float() - exact.grad).norm() < tolerance * exact.grad.norm()
        assert bias.grad is not None
        wanted = exact.grad.sum(0)
        assert (bias.grad.float() - wanted).norm() < tolerance * wanted.norm()

    @pytest.mark.skipif(INTERPRETED, reason="of the compiled kernel")
    def test_two_runs_give_the_same_bits(self) -> None:
        from theta.kernels.attention import attend

        lengths = [300, 20, 190] * 20
        qkv = torch.randn(sum(lengths), 3 * 768, device=DEVICE, dtype=torch.bfloat16, requires_grad=True)
        gradients = []
        for _ in range(2):
            attend(qkv, block_table(lengths).to(DEVICE), 12, 0.125).square().sum().backward()
            assert qkv.grad is not None
            gradients.append(qkv.grad)
            qkv.grad = None
        first, second = gradients
        assert torch.equal(first, second)


class TestGelu:
    pytestmark = needs_triton

    @pytest.mark.parametrize(("tokens", "columns"), [(1, 64), (130, 300), (257, 512)])
    def test_equals_torch(self, tokens: int, columns: int) -> None:
        from theta.kernels.gelu import gelu

        torch.manual_seed(0)
        dtype, tolerance = (torch.float32, 1e-5) if INTERPRETED else (torch.bfloat16, 1e-2)
        product = (3 * torch.randn(tokens, columns, device=DEVICE)).to(dtype).requires_grad_()
        bias = torch.zeros(columns, device=DEVICE, dtype=dtype, requires_grad=True)
        weights = torch.randn(tokens, columns, device=DEVICE, dtype=dtype)
        ours = gelu(product, bias)
        (ours * weights).sum().backward()
        exact = product.detach().float().requires_grad_()
        wanted = torch.nn.functional.gelu(exact, approximate="tanh")
        (wanted * weights.float()).sum().backward()
        assert product.grad is not None
        assert exact.grad is not None
        assert bias.grad is not None
        sums = exact.grad.sum(0)
        assert (ours.float() - wanted).norm() < tolerance * wanted.norm()
        assert (product.grad.float() - exact.grad).norm() < tolerance * exact.grad.norm()
        assert (bias.grad.float() - sums).norm() < tolerance * sums.norm()


class TestBlocks:
    pytestmark = needs_triton

    @pytest.mark.skipif(INTERPRETED, reason="runs on the GPU's own types")
    @pytest.mark.parametrize("passes", [Passes(), Passes(recompute=True), Passes(compiled=True)])
    def test_every_gradient_equals_that_of_plain_torch(self, passes: Passes) -> None:
        lengths = [70, 3, 190, 64]
        ids = torch.randint(300, (1, sum(lengths)), device=DEVICE, generator=torch.Generator(DEVICE).manual_seed(0))
        gradients = []
        torch.compiler.reset()  # other tests compiled the block for other shapes, and there is a limit
        for dtype in (torch.bfloat16, torch.float32):
            model = network.new(2, 2, 128, seed=0, vocabulary_size=300).to(DEVICE, torch.bfloat16).to(dtype)
            network.fuse_activation(model)
            network.set_dropout(model, 0.0)
            packing = Packing.of(lengths, DEVICE)
            states = hidden_states(model, ids, packing, passes if dtype == torch.bfloat16 else EAGER)
            weights = torch.randn(states.shape, device=DEVICE, generator=torch.Generator(DEVICE).manual_seed(1))
            (states.float() * weights).sum().backward()
            gradients.append({name: parameter.grad for name, parameter in model.transformer.named_parameters()})
        for name, exact in gradients[1].items():
            ours = gradients[0][name]
            assert ours is not None
            assert exact is not None
            assert (ours.float() - exact).norm() < 0.05 * exact.norm(), name  # bfloat16's rounding


class TestLoss:
    pytestmark = needs_triton

    @pytest.mark.parametrize("smoothing", [0.0, 0.1])
    def test_equals_cross_entropy(self, smoothing: float) -> None:
        from theta.kernels.cross_entropy import nats_and_gradient_

        torch.manual_seed(0)
        columns, vocabulary = 5056, 5003
        logits = 3 * torch.randn(9, columns, device=DEVICE)
        targets = torch.randint(vocabulary, (9,), device=DEVICE)
        targets[4] = -100
        exact = logits.clone().requires_grad_()
        wanted = cross_entropy(exact[:, :vocabulary], targets, reduction="none", label_smoothing=smoothing)
        (0.25 * wanted.sum()).backward()
        nats = nats_and_gradient_(logits, targets, vocabulary, torch.tensor(0.25, device=DEVICE), smoothing)
        torch.testing.assert_close(nats, wanted, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(logits, exact.grad, atol=1e-6, rtol=1e-4)
