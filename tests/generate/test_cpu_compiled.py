"""The compiled forward pass: against plain ones, at every size, whatever the number of tokens and threads."""

import os
import shutil
from collections.abc import Iterator
from ctypes import CDLL
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import torch

from theta.bases.weight_files import EMBEDDING, OUTPUT_MATRIX
from theta.generate import cpu_compiled, cpu_library, network, weights
from theta.generate.cpu_compiled import CompiledWriter, Network
from theta.generate.engine import Row
from theta.generate.settings import GenerationSettings
from theta.generate.shape import Shape

ODD = Shape.of(
    {"n_layer": 2, "n_head": 3, "n_embd": 21, "n_inner": 75, "n_positions": 40, "vocab_size": 131,
     "scale_attn_by_inverse_layer_idx": True, "tie_word_embeddings": False}
)  # fmt: skip
"""No size is a multiple of what the processor computes at once."""
EVEN = Shape.of({"n_layer": 2, "n_head": 2, "n_embd": 64, "n_positions": 40, "vocab_size": 160})


@pytest.fixture(scope="module")
def library() -> CDLL:
    if (found := cpu_library.library()) is None:
        pytest.skip("needs a C compiler")
    return found


def random_tensors(shape: Shape, scale: float = 0.3) -> dict[str, np.ndarray]:
    width, inner = shape.width, shape.inner
    sizes: dict[str, tuple[int, ...]] = {
        EMBEDDING: (shape.vocabulary, width), "wpe.weight": (shape.positions, width), "ln_f.weight": (width,),
        "ln_f.bias": (width,), OUTPUT_MATRIX: (shape.vocabulary, width),
    }  # fmt: skip
    for layer in range(shape.layers):
        matrices = {"attn.c_attn": (width, 3 * width), "attn.c_proj": (width, width)}
        matrices |= {"mlp.c_fc": (width, inner), "mlp.c_proj": (inner, width)}
        for name, size in {"ln_1": (width,), "ln_2": (width,), **matrices}.items():
            sizes |= {f"h.{layer}.{name}.weight": size, f"h.{layer}.{name}.bias": size[-1:]}
    rng = np.random.default_rng(0)
    return {name: (rng.standard_normal(size) * scale).astype(np.float32) for name, size in sizes.items()}


def rounded_to_16_bits(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return tensors whose matrices are rounded as torch rounds, except for the embeddings."""
    return {
        name: torch.from_numpy(each).bfloat16().float().numpy() if is_matrix(name, each) else each
        for name, each in tensors.items()
    }


def rounded_to_8_bits(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    rounded = dict(tensors)
    for name, each in tensors.items():
        if is_matrix(name, each):
            scales = np.abs(each).max(1 if name == OUTPUT_MATRIX else 0, keepdims=True) / np.float32(127)
            rounded[name] = np.rint(each / scales) * scales
    return rounded


def is_matrix(name: str, tensor: np.ndarray) -> bool:
    return name == OUTPUT_MATRIX or (name.startswith("h.") and tensor.ndim == 2)


def expected_logits(tensors: dict[str, np.ndarray], shape: Shape, ids: list[int]) -> np.ndarray:
    """Return the logits after each id, by plain torch in float32."""
    arranged = weights.arrange(
        {name: torch.from_numpy(each) for name, each in tensors.items()}, shape, torch.device("cpu"), torch.float32
    )
    return network.logits(arranged, shape, ids, range(len(ids))).numpy()


IDS = [5, 17, 5, 130, 0, 99, 42, 42, 7, 3, 11, 77, 100, 2, 60, 61, 62, 63, 1]


@pytest.mark.parametrize("shape", [ODD, replace(EVEN, tied=False)])
@pytest.mark.parametrize(
    ("dtype", "rounded"),
    [("float32", dict), ("bfloat16", rounded_to_16_bits), ("int8", rounded_to_8_bits)],
)
def test_logits_are_those_of_torch_with_the_rounded_weights(
    library: CDLL, shape: Shape, dtype: str, rounded: type[dict[str, np.ndarray]]
) -> None:
    tensors = random_tensors(shape)
    found = Network(library, tensors, shape, dtype, threads=2).logits(IDS, range(len(IDS)))
    expected = expected_logits(rounded(tensors), shape, IDS)
    assert np.abs(found - expected).max() < 2e-5 * np.abs(expected).max()


@pytest.mark.parametrize("activation", sorted(cpu_compiled.ACTIVATIONS))
def test_every_activation_is_that_of_torch(library: CDLL, activation: str) -> None:
    shape = replace(ODD, activation=activation)
    tensors = random_tensors(shape, scale=1.0)  # so that large values occur
    found = Network(library, tensors, shape, "float32", threads=1).logits(IDS, range(len(IDS)))
    expected = expected_logits(tensors, shape, IDS)
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


def test_the_activations_are_those_of_torch_by_name() -> None:
    assert cpu_compiled.ACTIVATIONS.keys() == network.ACTIVATIONS.keys()


@pytest.mark.parametrize("dtype", list(cpu_compiled.FORMATS))
@pytest.mark.parametrize("shape", [ODD, EVEN])
def test_a_token_depends_neither_on_others_nor_on_threads(library: CDLL, shape: Shape, dtype: str) -> None:
    tensors = random_tensors(shape)
    for threads in (1, 2, 5):
        model = Network(library, tensors, shape, dtype, threads)
        together = model.logits(IDS, range(len(IDS)))
        cache = model.new_cache()
        alone = [model.read([id_], [place], [cache], [0])[0] for place, id_ in enumerate(IDS)]
        assert np.array_equal(together, alone)
        if threads == 1:
            first = together
        assert np.array_equal(together, first)
    # One token of each of several texts at once.
    caches = [model.new_cache() for _ in range(11)]
    assert np.array_equal(model.read([IDS[0]] * 11, [0] * 11, caches, range(11)), [first[0]] * 11)


def test_weights_in_float32_that_16_bits_hold_are_kept_in_16(library: CDLL) -> None:
    tensors = random_tensors(EVEN)
    held = {name: torch.from_numpy(each).bfloat16().float().numpy() for name, each in tensors.items()}
    as_stored = {name: (each.view(np.uint32) >> 16).astype(np.uint16) for name, each in held.items()}
    model = Network(library, held, EVEN, "float32", threads=1)
    assert model._model.head.format == cpu_compiled.FORMATS["bfloat16"]
    assert Network(library, tensors, EVEN, "float32", 1)._model.head.format == cpu_compiled.FORMATS["float32"]
    found = model.logits(IDS, range(len(IDS)))
    stored = Network(library, as_stored, EVEN, "float32", threads=1).logits(IDS, range(len(IDS)))
    assert np.array_equal(found, stored)
    expected = expected_logits(held, EVEN, IDS)
    assert np.abs(found - expected).max() < 2e-5 * np.abs(expected).max()


@pytest.mark.parametrize("dtype", list(cpu_compiled.FORMATS))
def test_a_weight_that_is_no_number_is_seen(library: CDLL, dtype: str) -> None:
    tensors = random_tensors(EVEN)
    tensors["h.1.mlp.c_proj.weight"][3, 4] = np.nan
    assert np.isnan(Network(library, tensors, EVEN, dtype, 1).logits(IDS, [0])).all()


def test_columns_of_zeros_stay_zeros_in_8_bits(library: CDLL) -> None:
    tensors = random_tensors(EVEN)
    tensors[EMBEDDING][8] = 0
    assert (Network(library, tensors, EVEN, "int8", 1).logits(IDS, range(len(IDS)))[:, 8] == 0).all()


@pytest.mark.parametrize("name", ["h.0.attn.c_attn.weight", "h.1.mlp.c_fc.bias", "ln_f.weight", EMBEDDING])
def test_weights_of_another_shape_are_refused(library: CDLL, name: str) -> None:
    tensors = random_tensors(EVEN)
    tensors[name] = tensors[name][..., :-1]
    with pytest.raises(ValueError, match="a weight has the shape"):
        Network(library, tensors, EVEN, "float32", threads=1)


def test_rows_that_cannot_be_opened_leave_nothing(library: CDLL) -> None:
    writer = CompiledWriter(Network(library, random_tensors(EVEN), EVEN, "float32", threads=1), [])
    noise = np.zeros(3, np.float32)
    rows = [Row(number, prompt, GenerationSettings(), noise) for number, prompt in enumerate(([1, 2, 3], [1, 999, 3]))]
    with pytest.raises(IndexError):
        writer.open(rows)
    writer.open(rows[:1])
    writer.close(rows[0])
    assert not writer._caches


class TestLibrary:
    @pytest.fixture(autouse=True)
    def empty_cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        cpu_library.library.cache_clear()
        yield
        cpu_library.library.cache_clear()

    def test_it_is_built_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        if cpu_library.library() is None:
            pytest.skip("needs a C compiler")
        (file,) = (tmp_path / "theta" / "cpu").iterdir()
        cpu_library.library.cache_clear()

        def fail(*_: object, **__: object) -> CompletedProcess[str]:
            raise AssertionError("it was built again")

        monkeypatch.setattr("subprocess.run", fail)
        assert cpu_library.library() is not None
        assert list((tmp_path / "theta" / "cpu").iterdir()) == [file]

    def test_a_damaged_one_is_built_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        if (compiler := shutil.which("cc")) is None:
            pytest.skip("needs a C compiler")
        monkeypatch.setenv("CC", compiler)
        file = cpu_library._built(compiler)
        file.write_bytes(b"")
        assert cpu_library.library() is not None
        assert file.stat().st_size

    @pytest.mark.parametrize("mode", [0o770, 0o707])
    def test_what_others_may_have_written_is_not_loaded(self, mode: int, tmp_path: Path) -> None:
        if cpu_library.library() is None:
            pytest.skip("needs a C compiler")
        (tmp_path / "theta" / "cpu").chmod(mode)
        cpu_library.library.cache_clear()
        assert cpu_library.library() is None

    @pytest.mark.parametrize("compiler", ["false", "no-such-compiler"])
    def test_without_a_compiler_that_works_there_is_none(self, compiler: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CC", compiler)
        assert cpu_library.library() is None

    @pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
    def test_without_a_cache_that_can_be_written_there_is_none(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o500)
        assert cpu_library.library() is None
