"""Every engine against the plain reference: the processed distribution, the sampled one, and whole replies."""

import copy
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from theta.bases.weight_files import EMBEDDING, OUTPUT_MATRIX, plain_name
from theta.generate import cpu_compiled, cpu_engine, cpu_library, cpu_products, cpu_sampling, weights
from theta.generate.engine import Engine, Request, Row, SharedEngine, Writer
from theta.generate.sampling import nucleus, penalised
from theta.generate.settings import GenerationSettings
from theta.generate.shape import Shape
from theta.generate.torch_engine import TorchWriter

V, END, NEVER, POSITIONS = 60, 57, [58], 1024
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cuda" if torch.cuda.is_available() and not INTERPRETED else "cpu"


@pytest.fixture(scope="module")
def unrounded_model() -> GPT2LMHeadModel:
    torch.manual_seed(6)
    sizes = {"n_layer": 2, "n_head": 2, "n_embd": 32, "n_positions": POSITIONS, "vocab_size": V}
    return GPT2LMHeadModel(GPT2Config(**sizes, initializer_range=0.3, bos_token_id=None, eos_token_id=None)).eval()


@pytest.fixture(scope="module")
def model(unrounded_model: GPT2LMHeadModel) -> GPT2LMHeadModel:
    """Return a model whose weights can be packed."""
    return copy.deepcopy(unrounded_model).bfloat16().float()


def parts(model: GPT2LMHeadModel) -> tuple[dict[str, torch.Tensor], Shape]:
    return {plain_name(name): each for name, each in model.state_dict().items()}, Shape.of(model.config.to_dict())


def numpy_writer(model: GPT2LMHeadModel) -> Writer:
    tensors, shape = parts(model)
    return cpu_engine.CpuWriter({name: each.numpy() for name, each in tensors.items()}, shape, NEVER)


def torch_writer(model: GPT2LMHeadModel, device: str = "cpu") -> Writer:
    tensors, shape = parts(model)
    return TorchWriter(weights.arrange(tensors, shape, torch.device(device), torch.float32), shape, NEVER)


def packed_writer(model: GPT2LMHeadModel) -> Writer:
    """Return the writer in torch with weights in 16 bits, whose values are in float32 nevertheless."""
    tensors, shape = parts(model)
    packed = cpu_products.pack_exactly(weights.arrange(tensors, shape, torch.device("cpu"), torch.float32))
    if packed.head.packed is None:
        pytest.skip("needs FBGEMM")
    return TorchWriter(packed, shape, NEVER)


def compiled_writer(model: GPT2LMHeadModel, dtype: str = "float32") -> Writer:
    if (library := cpu_library.library()) is None:
        pytest.skip("needs a C compiler")
    tensors, shape = parts(model)
    arrays = {name: each.numpy() for name, each in tensors.items()}
    return cpu_compiled.CompiledWriter(cpu_compiled.Network(library, arrays, shape, dtype, threads=2), NEVER)


def compiled_int8_writer(model: GPT2LMHeadModel) -> Writer:
    return compiled_writer(model, "int8")


def int8_writer(model: GPT2LMHeadModel) -> Writer:
    if not cpu_products.is_available():
        pytest.skip("needs FBGEMM")
    tensors, shape = parts(model)
    arranged = weights.arrange(tensors, shape, torch.device("cpu"), torch.float32, as_stored=True)
    return TorchWriter(cpu_products.round_to_8_bits(arranged), shape, NEVER)


def rounded_writer(model: GPT2LMHeadModel) -> Writer:
    """Return the plain writer in float32, with weights that were rounded to 8 bits; the embedding is not."""
    tensors, shape = parts(model)
    tensors[OUTPUT_MATRIX] = tensors[EMBEDDING]
    for name, each in tensors.items():
        if name == OUTPUT_MATRIX or (name.startswith("h.") and each.ndim == 2):
            inputs = 1 if name == OUTPUT_MATRIX else 0  # Hugging Face stores the layers' matrices as [in, out].
            scales = each.abs().amax(inputs, keepdim=True) / 127
            tensors[name] = (each / scales).round() * scales
    return cpu_engine.CpuWriter(
        {name: each.numpy() for name, each in tensors.items()}, replace(shape, tied=False), NEVER
    )


WRITERS = [numpy_writer, torch_writer, packed_writer, compiled_writer]
INT8_WRITERS = [int8_writer, compiled_int8_writer]


def gpu_writer(model: GPT2LMHeadModel) -> Writer:
    from theta.generate.gpu_engine import GpuWriter

    tensors, shape = parts(model)
    arranged = weights.arrange(tensors, shape, torch.device(DEVICE), torch.float32)
    return GpuWriter(arranged, shape, NEVER, graphs=not INTERPRETED)


def written(writer: Writer, requests: Sequence[Request], rows: int = 8, end: int = END) -> list[list[int]]:
    replies: list[list[int]] = [[] for _ in requests]
    for place, token in SharedEngine(Engine(writer, end)).write(requests, rows):
        replies[place].append(token.id)
    return replies


def random_settings(rng: np.random.Generator) -> GenerationSettings:
    return GenerationSettings(
        temperature=rng.uniform(0.1, 2.0),
        top_p=rng.choice([0.0, 0.3, 0.9, 1.0]),
        top_k=int(rng.integers(1, 101)),
        repetition_penalty=rng.uniform(1.0, 2.0),
        no_repeat_ngram_size=int(rng.integers(0, 6)),
    )


@pytest.mark.parametrize(("vocabulary", "states"), [(V, 3000), (6500, 1000)])
def test_the_processed_distribution_equals_the_reference_in_thousands_of_states(vocabulary: int, states: int) -> None:
    """The larger vocabulary has enough chunks for the search in `cpu_sampling.highest`, the smaller one has not."""
    rng = np.random.default_rng(0)
    for state in range(states):
        settings = random_settings(rng)
        logits = (rng.standard_normal(vocabulary) * 4).astype(np.float32)
        likely = np.argsort(-logits)[:6]  # few different ids, so that n-grams recur
        reply = likely[rng.integers(0, 6, int(rng.integers(0, 40)))].tolist()
        expected, ids = cpu_sampling.distribution(logits - cpu_sampling.log_sum_exp(logits), reply, settings)
        expected = expected / expected.sum()
        said = torch.tensor([reply], dtype=torch.long)
        found, places = nucleus(penalised(torch.from_numpy(logits)[None], said, settings), settings)
        whole = torch.zeros(vocabulary).scatter(0, places[0], found[0] / found.sum()).numpy()
        # An id at the edge of top_p may fall on either side by rounding: then everything else is scaled alike.
        wanted = np.zeros(vocabulary, np.float32)
        wanted[ids] = expected
        kept, also = set(np.flatnonzero(whole)), set(np.flatnonzero(wanted))
        if kept == also:
            assert np.allclose(whole, wanted, rtol=0, atol=2e-6), state
        else:
            assert len(kept ^ also) == 1, state


@pytest.mark.parametrize("make", WRITERS)
def test_what_is_sampled_follows_the_distribution(model: GPT2LMHeadModel, make: Any) -> None:
    chi_square(make(model), model)


@pytest.mark.parametrize("vocabulary", [V, cpu_sampling.CHUNK * 100 - 1, cpu_sampling.CHUNK * 100, 6437])
@pytest.mark.parametrize("values", [1, 5, 300, 100_000])
def test_the_highest_scores_are_those_of_a_stable_sort(vocabulary: int, values: int) -> None:
    """With few different values most scores are tied, and some are ruled out."""
    rng = np.random.default_rng(values)
    for count in (1, 2, 50, 100):
        scores = rng.integers(0, values, vocabulary).astype(np.float32)
        scores[rng.integers(0, vocabulary, int(rng.integers(1, vocabulary)))] = -np.inf
        expected = np.argsort(-scores, kind="stable")[:count]
        assert cpu_sampling.highest(scores, count).tolist() == expected.tolist()


def chi_square(writer: Writer, model: GPT2LMHeadModel, draws: int = 4000) -> None:
    """Compare the counts of first tokens with their probabilities; a right writer fails once in a million times."""
    settings = GenerationSettings(max_length=1, top_k=8, top_p=1.0, temperature=1.5, repetition_penalty=1.0)
    with torch.inference_mode():
        logits = model(torch.tensor([[1, 2, 3]])).logits[0, -1].index_fill(0, torch.tensor(NEVER), -torch.inf).numpy()
    probabilities, ids = cpu_sampling.distribution(logits - cpu_sampling.log_sum_exp(logits), [], settings)
    requests = [Request([1, 2, 3], settings, seed) for seed in range(draws)]
    drawn = np.array([reply[0] for reply in written(writer, requests, rows=writer.most_rows)])
    assert set(drawn) <= set(ids.tolist())
    expected = probabilities / probabilities.sum() * draws
    often = expected >= 5
    counts = np.array([(drawn == id_).sum() for id_ in ids])
    statistic = float(((counts - expected) ** 2 / expected)[often].sum())
    assert statistic < 41, "of at most 7 degrees of freedom"


@pytest.mark.parametrize("make", WRITERS)
def test_greedy_replies_equal_the_reference_over_a_thousand_tokens(model: GPT2LMHeadModel, make: Any) -> None:
    (reply,) = written(make(model), [Request([1, 2, 3], LONG_GREEDY)], end=-1)
    assert len(reply) == 1000
    for step, (logits, row) in enumerate(reference_states(model, reply)):
        assert cpu_sampling.choose(logits, row).id == reply[step], step


LONG_GREEDY = GenerationSettings(max_length=1000, top_k=1, no_repeat_ngram_size=5)


def reference_states(model: GPT2LMHeadModel, reply: list[int]) -> Iterator[tuple[np.ndarray, Row]]:
    """Yield the logits of transformers before each token of a reply to 1, 2, 3, and the row until then."""
    with torch.inference_mode():  # all positions at once
        logits = model(torch.tensor([[1, 2, 3, *reply]])).logits[0, 2:-1].index_fill(1, torch.tensor(NEVER), -torch.inf)
    for step in range(len(reply)):
        yield logits[step].numpy(), Row(0, [1], LONG_GREEDY, np.zeros(1000, np.float32), reply=reply[:step])


def bfloat16_writer(model: GPT2LMHeadModel) -> Writer:
    tensors, shape = parts(model)
    arranged = weights.arrange(tensors, shape, torch.device("cpu"), torch.bfloat16)
    return TorchWriter(cpu_products.pack_exactly(arranged), shape, NEVER)


def compiled_bfloat16_writer(model: GPT2LMHeadModel) -> Writer:
    return compiled_writer(model, "bfloat16")


@pytest.mark.parametrize("make", [bfloat16_writer, compiled_bfloat16_writer])
def test_bfloat16_on_a_cpu_writes_nearly_the_likeliest_tokens_of_float32(
    unrounded_model: GPT2LMHeadModel, make: Any
) -> None:
    """Of a thousand tokens at least 98 % are the choice of float32, and none is 0.05 nats less likely than it.

    The weights differ by up to 2 ** -9 of themselves, and those of a trained model are smaller than these.
    """
    (reply,) = written(make(unrounded_model), [Request([1, 2, 3], LONG_GREEDY)], end=-1)
    lost = []
    for step, (logits, row) in enumerate(reference_states(unrounded_model, reply)):
        scores = logits - cpu_sampling.log_sum_exp(logits)
        scores[list(set(row.reply))] *= LONG_GREEDY.repetition_penalty
        lost.append(float(scores[cpu_sampling.choose(logits, row).id] - scores[reply[step]]))
    assert sum(nats == 0 for nats in lost) >= 980
    assert 0 < max(lost) < 0.05


@pytest.mark.parametrize("make", [*WRITERS, *INT8_WRITERS])
def test_a_reply_ends_with_the_positions(model: GPT2LMHeadModel, make: Any) -> None:
    border(make(model))


def border(writer: Writer) -> None:
    settings = GenerationSettings(max_length=1024)
    requests = [Request([1] * length, settings, seed=1) for length in (POSITIONS - 1, POSITIONS - 4)]
    assert [len(reply) for reply in written(writer, requests, end=-1)] == [1, 4]


PLAIN = GenerationSettings(max_length=8, top_k=16)
REQUESTS = [
    Request([1, 2, 3], PLAIN, 1),
    Request([4], PLAIN.replaced(max_length=5, top_k=1), 2),
    Request(list(range(5, 25)), PLAIN.replaced(temperature=1.5, top_p=0.7, no_repeat_ngram_size=1), 3),
    Request([7, 7], PLAIN.replaced(temperature=2.0, repetition_penalty=1.0, no_repeat_ngram_size=0), 4),
    Request([9], PLAIN.replaced(top_p=1.0, no_repeat_ngram_size=2, repetition_penalty=2.0), 5),
]
"""Each with its own parameters."""


def test_numpy_and_torch_write_the_same_replies(model: GPT2LMHeadModel) -> None:
    expected = written(numpy_writer(model), REQUESTS)
    assert written(torch_writer(model), REQUESTS) == expected
    assert written(packed_writer(model), REQUESTS) == expected


def test_the_compiled_writer_writes_the_same_replies(model: GPT2LMHeadModel, unrounded_model: GPT2LMHeadModel) -> None:
    """The weights of the first model are kept in 16 bits, those of the second in 32."""
    requests = [*REQUESTS, Request(list(range(50)) * 6, LONG_GREEDY.replaced(max_length=100))]
    for each in (model, unrounded_model):
        assert written(compiled_writer(each), requests) == written(numpy_writer(each), requests)


@pytest.mark.parametrize("make", INT8_WRITERS)
def test_int8_replies_are_those_in_float32_with_rounded_weights(unrounded_model: GPT2LMHeadModel, make: Any) -> None:
    requests = [*REQUESTS, Request([1, 2, 3], LONG_GREEDY.replaced(max_length=300))]
    assert written(make(unrounded_model), requests) == written(rounded_writer(unrounded_model), requests)


def test_prompts_that_are_read_together_are_those_that_are_read_alone(model: GPT2LMHeadModel) -> None:
    pytest.importorskip("triton")
    from theta.generate.gpu_prefill import Prefill
    from theta.generate.gpu_state import State

    tensors, shape = parts(model)
    arranged = weights.arrange(tensors, shape, torch.device("cpu"), torch.float32)
    state = State.new(arranged, shape, NEVER, slots=5)
    slots, prompts = [4, 0, 3], [list(range(size)) for size in (32, 1, 7)]
    reader = Prefill(arranged, shape, state, rows=4, size=32, graph=False)
    reader.read([1], [[9] * 30])
    reader.read(slots, prompts)

    alone = TorchWriter(arranged, shape, NEVER)
    alone.open(
        [
            Row(slot, [*ids, 0], GenerationSettings(), np.zeros(1, np.float32))
            for slot, ids in zip(slots, prompts, strict=True)
        ]
    )
    for place, (slot, ids) in enumerate(zip(slots, prompts, strict=True)):
        expected = alone._cache[place, :, :, :, : len(ids)]
        torch.testing.assert_close(state.cache[:, slot, :, :, : len(ids)], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("make", [*INT8_WRITERS, compiled_writer])
def test_replies_depend_neither_on_their_neighbours_nor_on_their_number(
    unrounded_model: GPT2LMHeadModel, make: Any
) -> None:
    requests = [replace(request, seed=seed) for seed in range(4) for request in REQUESTS]
    alone = [written(make(unrounded_model), [request])[0] for request in requests]
    for rows in (2, 7, 20):
        assert written(make(unrounded_model), requests, rows) == alone


class TestGpu:
    """On a GPU, or in Triton's interpreter with smaller chunks, which it sorts slowly."""

    pytestmark: ClassVar = [
        pytest.mark.gpu,
        pytest.mark.skipif(not (INTERPRETED or torch.cuda.is_available()), reason="needs a CUDA device"),
        pytest.mark.filterwarnings("ignore:.* encountered in .*:RuntimeWarning"),
    ]

    @pytest.fixture(autouse=True)
    def small_chunks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        if INTERPRETED:
            monkeypatch.setattr("theta.kernels.sampling.CHUNK", 16)
            monkeypatch.setattr("theta.generate.gpu_engine.KEPT", (16, 16))

    @pytest.mark.parametrize("rows", [1, 4])
    def test_the_replies_are_those_of_plain_torch(self, model: GPT2LMHeadModel, rows: int) -> None:
        requests = REQUESTS[:2] if INTERPRETED and rows == 1 else REQUESTS
        assert written(gpu_writer(model), requests, rows) == written(torch_writer(model), requests)

    def test_log_probabilities_are_those_of_plain_torch(self, model: GPT2LMHeadModel) -> None:
        tokens = []
        for writer in (gpu_writer(model), torch_writer(model)):
            engine = Engine(writer, END)
            row = engine.join([1, 2, 3], GenerationSettings(max_length=2, top_k=1), 0, alternatives=3)
            tokens.append(engine.step()[row])
        ours, reference = tokens
        assert ours.id == reference.id
        assert ours.log_probability == pytest.approx(reference.log_probability, abs=1e-4)
        assert [id_ for id_, _ in ours.alternatives] == [id_ for id_, _ in reference.alternatives]

    @pytest.mark.skipif(INTERPRETED, reason="takes minutes in the interpreter")
    def test_long_replies_the_border_and_the_distribution(self, model: GPT2LMHeadModel) -> None:
        settings = GenerationSettings(max_length=1000, top_k=1, no_repeat_ngram_size=5)
        request = [Request([1, 2, 3], settings)]
        expected = written(torch_writer(model), request, end=-1)
        assert written(gpu_writer(model), request, end=-1) == expected
        border(gpu_writer(model))
        chi_square(gpu_writer(model), model)
