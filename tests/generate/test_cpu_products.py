"""Products with packed weights: against plain ones, and whatever the number of rows and threads."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from theta.generate import cpu_products, weights
from theta.generate.cpu_products import Product8, Product16
from theta.generate.shape import Shape

pytestmark = [
    pytest.mark.skipif(not cpu_products.is_available(), reason="needs FBGEMM"),
    pytest.mark.filterwarnings("ignore:.*quantized tensor creation functions"),  # where `Product8.of` is called alone
]


ROOT = Path(__file__).resolve().parents[2]


def random(*sizes: int, seed: int) -> torch.Tensor:
    return torch.randn(sizes, generator=torch.Generator().manual_seed(seed))


X, WEIGHT, BIAS = random(24, 96, seed=1), random(700, 96, seed=0), random(700, seed=2)


def in_8_bits(weight: torch.Tensor) -> torch.Tensor:
    """Return the weights as 8 bits hold them, with a scale for each row, in float64."""
    scales = weight.double().abs().amax(1, keepdim=True) / 127
    return (weight.double() / scales).round() * scales


@pytest.mark.parametrize("bias", [BIAS, None])
def test_the_product_in_16_bits_is_that_in_float32(bias: torch.Tensor | None) -> None:
    weight = WEIGHT.bfloat16().float()
    exact = torch.nn.functional.linear(X.double(), weight.double(), None if bias is None else bias.double())
    found = Product16.of(weights.Matrix(weight, bias))(X)
    assert torch.allclose(found.double(), exact, rtol=0, atol=1e-4)  # sums of 96 terms of about 1


@pytest.mark.parametrize("bias", [BIAS, None])
def test_the_product_in_8_bits_is_that_of_the_rounded_weights(bias: torch.Tensor | None) -> None:
    exact = torch.nn.functional.linear(X.double(), in_8_bits(WEIGHT), None if bias is None else bias.double())
    found = Product8.of(weights.Matrix(WEIGHT, bias))(X)
    # An activation is off by at most 1 / 15,876 of the largest of its row, which is about 2.5.
    assert (found.double() - exact).abs().max() < 96 * 2.5 / 15876
    assert (found.double() - exact).std() < 2e-3


def test_the_product_in_8_bits_is_exact_on_processors_without_vnni() -> None:
    own = f"import {__name__} as own; own.test_the_product_in_8_bits_is_that_of_the_rounded_weights(own.BIAS)"
    environment = {**os.environ, "FBGEMM_ENABLE_INSTRUCTIONS": "AVX2"}
    subprocess.run([sys.executable, "-c", own], cwd=ROOT, env=environment, check=True)


def test_in_8_bits_one_large_value_does_not_spoil_the_others_of_its_row() -> None:
    """With 8 bits for each value, those below 0.4 would be rounded to zero here."""
    x = X.clone()
    x[:, 7] = 100
    exact = x.double() @ in_8_bits(WEIGHT).T
    found = Product8.of(weights.Matrix(WEIGHT, None))(x)
    assert (found.double() - exact).std() < 0.08


def test_in_8_bits_zeros_are_exact() -> None:
    weight = WEIGHT.clone()
    weight[3] = 0
    product = Product8.of(weights.Matrix(weight, BIAS))
    assert torch.equal(product(torch.zeros(2, 96)), BIAS.expand(2, -1))
    assert torch.equal(product(X)[:, 3], BIAS[3].expand(24))


@pytest.mark.parametrize("kind", [Product16, Product8])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_row_does_not_depend_on_the_others_or_on_the_threads(kind: type[Product16 | Product8], threads: int) -> None:
    """The largest values are in one row, which must not change how the others are rounded."""
    x = X * torch.logspace(-3, 3, 24)[:, None]
    packed, before = kind.of(weights.Matrix(WEIGHT, BIAS)), torch.get_num_threads()
    product = packed(x)
    try:
        torch.set_num_threads(threads)
        assert all(torch.equal(packed(x[row : row + 1])[0], product[row]) for row in range(24))
    finally:
        torch.set_num_threads(before)


SHAPE = Shape.of({"n_layer": 2, "n_head": 2, "n_embd": 32, "n_positions": 8, "vocab_size": 60})


def arranged(weight: float) -> weights.Weights:
    """Return random weights that 16 bits hold, but for one."""
    sizes = {"wte.weight": (60, 32), "wpe.weight": (8, 32), "ln_f.weight": (32,), "ln_f.bias": (32,)}
    for layer in range(2):
        for name, size in (("ln_1", (32,)), ("ln_2", (32,)), ("attn.c_attn", (32, 96)), ("attn.c_proj", (32, 32)),
                           ("mlp.c_fc", (32, 128)), ("mlp.c_proj", (128, 32))):  # fmt: skip
            sizes |= {f"h.{layer}.{name}.weight": size, f"h.{layer}.{name}.bias": size[-1:]}
    tensors = {name: random(*size, seed=place).bfloat16().float() for place, (name, size) in enumerate(sizes.items())}
    tensors["h.1.mlp.c_proj.weight"][3, 4] = weight
    return weights.arrange(tensors, SHAPE, torch.device("cpu"), torch.float32)


def test_all_matrices_are_packed() -> None:
    for packed, dtype in (
        (cpu_products.pack_exactly(arranged(1.0)), "float32"),
        (cpu_products.round_to_8_bits(arranged(1.1)), "int8"),
    ):
        matrices = [packed.head, *(getattr(block, part) for block in packed.blocks for part in weights.MATRICES)]
        assert len(matrices) == 9
        assert all(matrix.packed is not None for matrix in matrices)
        assert packed.dtype == dtype


@pytest.mark.parametrize("weight", [1 + 2.0**-11, 1e5, float("nan")])
def test_weights_that_16_bits_do_not_hold_are_not_packed(weight: float) -> None:
    unpacked = arranged(weight)
    assert cpu_products.pack_exactly(unpacked) is unpacked
