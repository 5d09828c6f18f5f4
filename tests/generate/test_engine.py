from collections.abc import Sequence

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LogitsProcessorList,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from theta.bases.weight_files import plain_name
from theta.generate import weights
from theta.generate.engine import Engine, Request, SharedEngine
from theta.generate.sampling import draw, no_repeat_ngram, nucleus, penalised, repetition_penalty
from theta.generate.settings import GenerationSettings
from theta.generate.shape import Shape
from theta.generate.torch_engine import TorchWriter

V, END, PAD, POSITIONS = 60, 57, 58, 48
GREEDY = GenerationSettings(max_length=20, top_k=1)


@pytest.fixture(scope="module")
def model() -> GPT2LMHeadModel:
    torch.manual_seed(6)  # greedy replies of this model end early, each at another length
    sizes = {"n_layer": 2, "n_head": 2, "n_embd": 32, "n_positions": POSITIONS, "vocab_size": V}
    return GPT2LMHeadModel(GPT2Config(**sizes, initializer_range=0.3, bos_token_id=None, eos_token_id=None)).eval()


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(4, V, generator=torch.Generator().manual_seed(2)) * 4


@pytest.fixture
def ids() -> torch.Tensor:
    # Few different ids, so that n-grams recur.
    return torch.randint(0, 4, (4, 30), generator=torch.Generator().manual_seed(3))


def engine_of(model: GPT2LMHeadModel, never: Sequence[int] = ()) -> Engine:
    shape = Shape.of(model.config.to_dict())
    tensors = {plain_name(name): tensor for name, tensor in model.state_dict().items()}
    arranged = weights.arrange(tensors, shape, torch.device("cpu"), torch.float32)
    return Engine(TorchWriter(arranged, shape, [PAD, *never]), END)


def replies(
    model: GPT2LMHeadModel,
    prompts: list[list[int]],
    settings: GenerationSettings,
    seed: int = 0,
    never: Sequence[int] = (),
    rows: int = 64,
) -> list[list[int]]:
    """Return the replies; that to the prompt at place i has the seed `seed` + i."""
    requests = [Request(prompt, settings, seed + place) for place, prompt in enumerate(prompts)]
    written: list[list[int]] = [[] for _ in prompts]
    for place, token in SharedEngine(engine_of(model, never)).write(requests, rows):
        written[place].append(token.id)
    return written


def plain_reply(model: GPT2LMHeadModel, prompt: list[int], settings: GenerationSettings) -> list[int]:
    """Return the greedy reply, by full forward passes and transformers' processors on the reply's log-probabilities."""
    processors = LogitsProcessorList([RepetitionPenaltyLogitsProcessor(settings.repetition_penalty)])
    processors.append(NoRepeatNGramLogitsProcessor(settings.no_repeat_ngram_size))
    reply: list[int] = []
    while len(reply) < settings.max_length and len(prompt) + len(reply) < POSITIONS and END not in reply:
        with torch.inference_mode():
            scores = model(torch.tensor([prompt + reply])).logits[:, -1].index_fill(1, torch.tensor([PAD]), -torch.inf)
        said = torch.tensor([reply], dtype=torch.long)
        reply.append(processors(said, scores.log_softmax(-1)).argmax().item())
    return reply


@pytest.mark.parametrize("penalty", [1.0, 1.2, 2.0])
@pytest.mark.parametrize("length", [0, 1, 30])
def test_repetition_penalty_equals_that_of_transformers_on_log_probabilities(
    logits: torch.Tensor, ids: torch.Tensor, penalty: float, length: int
) -> None:
    # They are all negative, where transformers multiplies too.
    scores, said = logits.log_softmax(-1), ids[:, :length]
    expected = RepetitionPenaltyLogitsProcessor(penalty)(said, scores.clone())
    assert torch.equal(repetition_penalty(scores, said, penalty), expected)


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_the_penalty_is_a_power_of_the_probability(probability: float) -> None:
    scores = torch.tensor([[probability, 1 - probability]]).log()
    changed = repetition_penalty(scores, torch.tensor([[0, 0]]), 1.5).exp()
    assert changed[0].tolist() == pytest.approx([probability**1.5, 1 - probability])


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 5, 30])
def test_no_repeat_ngram_equals_that_of_transformers(
    logits: torch.Tensor, ids: torch.Tensor, size: int, length: int
) -> None:
    seen = ids[:, :length]
    expected = NoRepeatNGramLogitsProcessor(size)(seen, logits.clone())
    assert torch.equal(no_repeat_ngram(logits, seen, size), expected)


@pytest.mark.parametrize("temperature", [0.1, 0.8, 2.0])
@pytest.mark.parametrize("top_k", [1, 5, 50, 100])
@pytest.mark.parametrize("top_p", [0.0, 0.3, 0.9, 1.0])
def test_nucleus_equals_the_warpers_of_transformers(
    logits: torch.Tensor, ids: torch.Tensor, temperature: float, top_k: int, top_p: float
) -> None:
    warpers = [TemperatureLogitsWarper(temperature), TopKLogitsWarper(min(top_k, V))]
    warpers += [TopPLogitsWarper(top_p)] if top_p < 1 else []  # in the order of transformers' generate
    expected = LogitsProcessorList(warpers)(ids, logits.clone()).softmax(-1)
    settings = GenerationSettings(temperature=temperature, top_k=top_k, top_p=top_p)
    kept, places = nucleus(logits, settings)
    kept = kept / kept.sum(-1, keepdim=True)
    assert torch.allclose(torch.zeros(4, V).scatter(1, places, kept), expected, rtol=0, atol=1e-6)


def test_the_complete_chain_equals_that_of_transformers_on_log_probabilities(
    logits: torch.Tensor, ids: torch.Tensor
) -> None:
    settings = GenerationSettings()
    processors = LogitsProcessorList(
        [
            RepetitionPenaltyLogitsProcessor(settings.repetition_penalty),
            NoRepeatNGramLogitsProcessor(settings.no_repeat_ngram_size),
            TemperatureLogitsWarper(settings.temperature),
            TopKLogitsWarper(settings.top_k),
            TopPLogitsWarper(settings.top_p),
        ]
    )
    expected = processors(ids, logits.log_softmax(-1)).softmax(-1)
    kept, places = nucleus(penalised(logits, ids, settings), settings)
    kept = kept / kept.sum(-1, keepdim=True)
    assert torch.allclose(torch.zeros(4, V).scatter(1, places, kept), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("constant", [-100.0, -5.0, 5.0, 100.0])
def test_a_constant_added_to_the_logits_changes_nothing(
    logits: torch.Tensor, ids: torch.Tensor, constant: float
) -> None:
    settings = GenerationSettings()
    expected = penalised(logits, ids, settings).softmax(-1)
    shifted = penalised(logits + constant, ids, settings).softmax(-1)
    assert torch.allclose(shifted, expected, rtol=0, atol=1e-5)


def test_a_nearly_certain_token_stays_so(ids: torch.Tensor) -> None:
    logits = torch.zeros(4, V)
    logits[:, 1] = 20
    certain = logits.softmax(-1)[:, 1]
    changed = penalised(logits, ids, GenerationSettings(repetition_penalty=2.0, no_repeat_ngram_size=0))
    assert torch.allclose(changed.softmax(-1)[:, 1], certain, rtol=0, atol=1e-6)


def test_without_the_two_rules_logits_stay_as_they_are(logits: torch.Tensor, ids: torch.Tensor) -> None:
    settings = GenerationSettings(repetition_penalty=1.0, no_repeat_ngram_size=0)
    assert torch.equal(penalised(logits, ids, settings), logits)
    assert not torch.equal(penalised(logits, ids, GenerationSettings()), logits)


def test_suppressed_ids_stay_impossible(logits: torch.Tensor, ids: torch.Tensor) -> None:
    logits[:, PAD] = logits[:, 1] = -torch.inf
    probabilities = penalised(logits, ids, GenerationSettings()).softmax(-1)
    assert probabilities[:, [PAD, 1]].eq(0).all()
    assert torch.allclose(probabilities.sum(-1), torch.ones(4))


def test_draw_follows_the_probabilities_and_never_takes_an_impossible_id() -> None:
    probabilities, ids = torch.tensor([[0.5, 0.25, 0.0, 0.0]]), torch.tensor([[7, 8, 9, 10]])
    noise = torch.tensor([0.0, 0.3, 0.6665, 0.6667, 1 - 2**-24])
    drawn = draw(probabilities.expand(5, -1), ids.expand(5, -1), noise)
    assert drawn.tolist() == [7, 7, 7, 8, 8]


def test_greedy_equals_generate_of_transformers(model: GPT2LMHeadModel) -> None:
    prompt = [1, 2, 3, 4, 5]
    settings = GenerationSettings(max_length=30, top_k=1, repetition_penalty=1.0, no_repeat_ngram_size=0)
    expected = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        do_sample=False,
        max_new_tokens=30,
        eos_token_id=END,
        pad_token_id=PAD,
        suppress_tokens=[PAD],
    )
    assert replies(model, [prompt], settings) == [expected[0, len(prompt) :].tolist()]


@pytest.mark.parametrize("penalty", [1.2, 2.0])
@pytest.mark.parametrize("size", [1, 3])
def test_greedy_equals_a_plain_loop_over_the_reply_alone(model: GPT2LMHeadModel, penalty: float, size: int) -> None:
    settings = GenerationSettings(max_length=30, top_k=1, repetition_penalty=penalty, no_repeat_ngram_size=size)
    prompts = [[1, 2, 3], [4], [9] * 12, list(range(5, 17)), [END, 7, END, 7, END]]
    assert replies(model, prompts, settings) == [plain_reply(model, prompt, settings) for prompt in prompts]


@pytest.mark.parametrize("id_", [3, END])
def test_neither_rule_looks_at_the_prompt(model: GPT2LMHeadModel, id_: int) -> None:
    # The prompt holds nothing but one of the two ids that may come; the first token is drawn as without the rules.
    others = [other for other in range(V) if other not in (id_, 5)]
    plain = GenerationSettings(max_length=1, top_p=1.0, repetition_penalty=1.0, no_repeat_ngram_size=0)
    strict = plain.replaced(repetition_penalty=2.0, no_repeat_ngram_size=1)
    prompts = [[id_] * 10] * 200
    drawn = replies(model, prompts, plain, never=others)
    assert [id_] in drawn, "it must be drawn for this test to mean something"
    assert replies(model, prompts, strict, never=others) == drawn


@pytest.mark.parametrize("settings", [GREEDY, GenerationSettings(max_length=20, top_p=0.0)])
def test_greedy_needs_no_seed(model: GPT2LMHeadModel, settings: GenerationSettings) -> None:
    assert replies(model, [[1, 2, 3]], settings, seed=0) == replies(model, [[1, 2, 3]], settings, seed=1)


def test_a_prompt_is_answered_alike_alone_and_in_a_batch(model: GPT2LMHeadModel) -> None:
    prompts = [[1, 2, 3], [4], list(range(5, 25)), [9, 9, 9, 9, 9], [40, 41], [30]]
    alone = [replies(model, [prompt], GREEDY)[0] for prompt in prompts]
    lengths = {len(reply) for reply in alone}
    assert len(lengths) > 1, "some replies must end early for this test to mean something"
    assert replies(model, prompts, GREEDY) == alone


def test_sampled_replies_do_not_depend_on_how_prompts_are_batched(model: GPT2LMHeadModel) -> None:
    prompts, settings = [[1, 2, 3], [4, 5], [6], [7, 8, 9, 10]], GenerationSettings(max_length=20)
    together = replies(model, prompts, settings)
    assert [replies(model, [prompt], settings, seed=place)[0] for place, prompt in enumerate(prompts)] == together
    assert replies(model, prompts, settings, rows=2) == together


def test_rows_join_and_leave_without_the_others_noticing(model: GPT2LMHeadModel) -> None:
    settings = GenerationSettings(max_length=20, temperature=2.0)
    other = settings.replaced(top_k=5, repetition_penalty=2.0, no_repeat_ngram_size=1)
    alone = replies(model, [[1, 2, 3]], settings, seed=7)[0]
    assert len(alone) > 4, "it must last for this test to mean something"
    engine = engine_of(model)
    left = engine.join([9] * 12, other, seed=1)
    row = engine.join([1, 2, 3], settings, seed=7)
    written = []
    for step in range(len(alone)):
        if step == 2:
            engine.leave(left)
            engine.leave(left)
        if step in (1, 3):
            engine.join([4 + step], other, seed=step)
        written.append(engine.step()[row].id)
    assert written == alone


def test_log_probabilities_are_those_of_the_model_alone(model: GPT2LMHeadModel) -> None:
    engine = engine_of(model)
    row = engine.join([1, 2, 3], GREEDY, alternatives=3)
    token = engine.step()[row]
    with torch.inference_mode():
        logits = model(torch.tensor([[1, 2, 3]])).logits[0, -1].index_fill(0, torch.tensor([PAD]), -torch.inf)
    values, ids = logits.log_softmax(-1).topk(3)
    assert [id_ for id_, _ in token.alternatives] == ids.tolist()
    assert [value for _, value in token.alternatives] == pytest.approx(values.tolist(), abs=1e-5)
    assert token.log_probability == pytest.approx(values[0].item(), abs=1e-5)


def test_replies_stop_at_the_end_token_at_max_length_and_at_the_last_position(model: GPT2LMHeadModel) -> None:
    long = GenerationSettings(max_length=1024)
    for prompt, reply in zip([[1], [2] * 30], replies(model, [[1], [2] * 30], long), strict=True):
        assert reply[-1] == END or len(prompt) + len(reply) == POSITIONS
        assert END not in reply[:-1]
    assert len(replies(model, [[1] * (POSITIONS - 1)], long)[0]) == 1
    assert len(replies(model, [[1]], GenerationSettings(max_length=1))[0]) == 1


def test_suppressed_ids_and_padding_are_never_produced(model: GPT2LMHeadModel) -> None:
    allowed = {3, END}
    suppressed = [id_ for id_ in range(V) if id_ not in allowed | {PAD}]
    settings = GenerationSettings(max_length=20, top_k=100, top_p=1.0, temperature=2.0, no_repeat_ngram_size=0)
    for seed in range(5):
        assert set(replies(model, [[1, 2]], settings, seed=seed, never=suppressed)[0]) <= allowed


def test_sampling_follows_the_distribution(model: GPT2LMHeadModel) -> None:
    settings = GenerationSettings(max_length=1, top_k=3, top_p=1.0, repetition_penalty=1.0, no_repeat_ngram_size=0)
    with torch.inference_mode():
        logits = model(torch.tensor([[1, 2, 3]])).logits[:, -1].index_fill(1, torch.tensor([PAD]), -torch.inf)
    probabilities, ids = nucleus(logits, settings)
    drawn = [reply[0] for reply in replies(model, [[1, 2, 3]] * 4000, settings)]
    for probability, id_ in zip(probabilities[0].tolist(), ids[0].tolist(), strict=True):
        # Four standard deviations of 4,000 draws at most.
        assert drawn.count(id_) / 4000 == pytest.approx(probability, abs=4 * 0.5 / 4000**0.5)
