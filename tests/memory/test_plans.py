"""The arithmetic of memory plans: its order, its size, and which plan it chooses; test_gpu_probe.py measures it."""

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.runs import SETTINGS, settings_with
from theta.bases import descriptors
from theta.bases.presets import GPT2
from theta.cli.probe import STEPS, random_run
from theta.errors import SettingsError
from theta.memory import promises
from theta.memory.forecast import automatic, forecasts, size_of_base
from theta.memory.gpu import GPU, gpu_of
from theta.memory.plans import (
    AUTOMATIC,
    FLOAT32,
    GIB,
    PLANS,
    Placement,
    Plan,
    Size,
    best,
    peak_bytes,
    placements,
    relative_seconds,
    smallest,
    usable_bytes,
)
from theta.model import network
from theta.optim.moments import state_bytes
from theta.train import choose
from theta.train.loop import train

SIZES = {base: size_of_base(descriptors.shape(base)) for base in GPT2}
MEDIUM = SIZES["gpt2-medium"]
NAMED = {plan.name: plan for plan in PLANS}


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.name)
@pytest.mark.parametrize("base", GPT2)
def test_more_tokens_need_more_memory_and_less_time(base: str, plan: Plan) -> None:
    # A step of 16,384 tokens and documents of 16 allows every microbatch; leanest takes the whole step only.
    found = sorted(placements(SIZES[base], (plan,), 16_384, 16), key=lambda placement: placement.tokens_per_microbatch)
    assert len(found) == (1 if plan.step_in_backward else 1024)
    assert all(one.peak <= two.peak for one, two in pairwise(found))
    assert all(relative_seconds(one) >= relative_seconds(two) for one, two in pairwise(found))
    assert peak_bytes(SIZES[base], plan, 512) < peak_bytes(SIZES[base], plan, 16_384)


@pytest.mark.parametrize("tokens", [512, 2048, 16_384])
@pytest.mark.parametrize("base", GPT2)
def test_plans_are_in_order(base: str, tokens: int) -> None:
    """Each plan needs less memory than the one before it, or as much where the update is the peak, and is no faster."""
    peaks = [peak_bytes(SIZES[base], plan, tokens) for plan in AUTOMATIC]
    assert [plan.name for plan in AUTOMATIC] == ["fast", "compact", "lean", "leanest"]
    assert sorted(peaks, reverse=True) == peaks
    assert peaks[0] > peaks[1] > peaks[3]
    # The single chunk of logits of `fast` can weigh more than float32 does.
    fast_in_chunks = replace(AUTOMATIC[0], positions_per_chunk=FLOAT32.positions_per_chunk)
    assert peak_bytes(SIZES[base], FLOAT32, tokens) > peak_bytes(SIZES[base], fast_in_chunks, tokens) >= peaks[1]
    seconds = [relative_seconds(next(placements(SIZES[base], (plan,), tokens, 16))) for plan in AUTOMATIC]
    assert sorted(seconds) == seconds


@pytest.mark.parametrize(
    ("base", "tokens", "gib"),
    [
        ("gpt2", 4096, 3.73),
        ("gpt2", 16_384, 7.48),
        ("gpt2", 32_768, 12.47),
        ("gpt2-medium", 4096, 9.66),
        ("gpt2-medium", 16_384, 19.44),
        ("gpt2-medium", 32_768, 32.49),
    ],
)
def test_float32_is_near_the_peaks_measured_on_an_h100(base: str, tokens: int, gib: float) -> None:
    assert peak_bytes(SIZES[base], FLOAT32, tokens) == pytest.approx(gib * GIB, rel=0.03)


def test_lean_is_below_compact_where_activations_count() -> None:
    assert peak_bytes(MEDIUM, NAMED["lean"], 2048) < peak_bytes(MEDIUM, NAMED["compact"], 2048)


def test_larger_bases_need_more() -> None:
    for plan in PLANS:
        peaks = [peak_bytes(size, plan, 2048) for size in SIZES.values()]
        assert sorted(peaks) == peaks


def test_parameters_are_those_of_the_model() -> None:
    model = network.new(2, 2, 32, seed=0, vocabulary_size=50)
    network.resize(model, 60)
    size = choose.size_of(model)
    assert size == Size(layers=2, width=32, columns=64, positions=1024)
    assert size.parameters == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("base", "parameters"),
    [("gpt2", 124_439_808), ("gpt2-medium", 354_823_168), ("gpt2-large", 774_030_080), ("gpt2-xl", 1_557_611_200)],
)
def test_a_base_is_sized_by_its_name(base: str, parameters: int) -> None:
    shape = descriptors.shape(f"openai-community/{base}")
    assert descriptors.parameters(shape) == parameters
    more_columns = 50_304 - 50_257  # Theta's five tokens, padded to a multiple of 64
    assert size_of_base(shape).parameters == parameters + more_columns * shape["width"]


def test_a_folder_is_sized_by_its_config_alone(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2", "n_layer": 3, "n_embd": 96, "vocab_size": 50262}')
    assert size_of_base(descriptors.shape(str(tmp_path))) == Size(layers=3, width=96, columns=50_304, positions=1024)


@pytest.mark.parametrize(("bits", "expected"), [(32, 8.0), (8, 2.0625), (4, 1.0625)])
def test_state_bytes(bits: int, expected: float) -> None:
    """There are two moments; in 8 and 4 bits, 128 weights share a float32 scale for each."""
    assert state_bytes(1280, bits) == 1280 * expected


@pytest.mark.parametrize("gib", [3, 6, 8, 12, 24, 80])
def test_the_fastest_sound_plan_that_fits_is_chosen(gib: float) -> None:
    found, budget = list(placements(MEDIUM, AUTOMATIC, 16_384, 512)), usable_bytes(gib * GIB)
    chosen = best(found, budget)
    assert chosen.peak <= budget
    sound = [each for each in found if each.plan.learns_worse <= chosen.plan.learns_worse]
    assert all(each.peak > budget for each in sound if relative_seconds(each) < relative_seconds(chosen))


def test_without_limit_the_whole_step_is_one_microbatch() -> None:
    chosen = best(list(placements(MEDIUM, AUTOMATIC, 16_384, 512)), math.inf)
    assert (chosen.plan.name, chosen.tokens_per_microbatch) == ("fast", 16_384)


def test_what_does_not_fit_is_one_line_with_value_and_remedy() -> None:
    found = list(placements(MEDIUM, AUTOMATIC, 16_384, 512))
    with pytest.raises(SettingsError) as caught:
        best(found, 1.5 * GIB)
    message, least = str(caught.value), smallest(found)
    assert message.startswith("No memory plan fits: 1.5 GiB are available, the smallest plan (")
    assert f"({least.plan.name}, {least.tokens_per_microbatch:,} tokens) needs {least.peak / GIB:.1f} GiB. " in message
    assert "Lower train.tokens_per_step or" in message
    assert "`theta plan`" in message
    assert "to auto" not in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("base", "gib", "tokens_per_step"),
    [("gpt2-xl", 12, 16_384), ("gpt2-medium", 4, 16_384), ("gpt2-large", 6, 16_384), ("gpt2-large", 8, 16_384),
     ("gpt2-xl", 16, 16_384), ("gpt2-xl", 12, 32_768)],
)  # fmt: skip
def test_a_plan_that_learns_worse_is_taken_only_where_no_other_fits(
    base: str, gib: float, tokens_per_step: int
) -> None:
    found = list(placements(SIZES[base], AUTOMATIC, tokens_per_step, 512))
    chosen = best(found, usable_bytes(gib * GIB))
    assert not chosen.plan.learns_worse
    below_all_others = min(each.peak for each in found if not each.plan.learns_worse) - 1
    if any(each.peak <= below_all_others for each in found):
        assert best(found, below_all_others).plan.learns_worse


def test_memory_that_other_programs_use_is_not_planned_with() -> None:
    assert usable_bytes(12 * GIB, 12 * GIB) == usable_bytes(12 * GIB)
    assert usable_bytes(12 * GIB, 9 * GIB) == pytest.approx(0.95 * 9 * GIB)
    desktop = GPU("a GPU with a desktop", 12 * GIB, free=9 * GIB)
    for size in SIZES.values():
        placement = automatic(size, desktop, 16_384, 512)
        assert not isinstance(placement, SettingsError)
        assert placement.peak <= 0.95 * 9 * GIB


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.name)
def test_the_ema_of_the_weights_is_planned_for(plan: Plan) -> None:
    """The EMA takes 4 bytes per weight; while it is validated, the weights themselves are set aside."""
    without, with_average = (peak_bytes(MEDIUM, plan, 2048, ema=ema) for ema in (False, True))
    assert with_average >= without + 4 * MEDIUM.parameters
    bytes_each = 4 if plan.weights == "float32" else 2
    at_least = (bytes_each * 2 + 4) * MEDIUM.parameters + state_bytes(MEDIUM.parameters, plan.moment_bits)
    assert peak_bytes(MEDIUM, plan, 16, ema=True) > at_least


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"memory": "fast"}, "No memory plan fits with machine.memory fast: 10.9 GiB are available"),
        ({"memory": "fast"}, " Set machine.memory to auto, lower train.tokens_per_step"),
        ({"memory": 4.0}, "No memory plan fits with machine.memory 4.0: 3.3 GiB are available"),
        (
            {"memory": "compact", "tokens_per_microbatch": 16_384},
            "with machine.memory compact and machine.tokens_per_microbatch 16384: 10.9 GiB are available",
        ),
        (
            {"memory": 5.5, "tokens_per_microbatch": 512},
            " Set machine.memory and machine.tokens_per_microbatch to auto, lower",
        ),
        (
            {"memory": "leanest", "tokens_per_microbatch": 512},
            "machine.tokens_per_microbatch is 512 and train.tokens_per_step 32768; set machine.tokens_per_microbatch",
        ),
    ],
)
def test_training_names_the_settings_that_do_not_fit(changes: Mapping[str, object], words: str) -> None:
    """On a GPU of 12 GiB."""
    with pytest.raises(SettingsError) as caught:
        placed("gpt2-xl", 12, **{"tokens_per_step": 32_768, **changes})
    assert words in str(caught.value)


@pytest.mark.parametrize("gib", [None, 10.0])
def test_training_takes_what_was_forecast(gib: float | None) -> None:
    gpu = gpu_of(gib or 12)
    for base, size in SIZES.items():
        taken = placed(base, 12, memory=gib or "auto", tokens_per_step=16_384)
        assert taken == automatic(size, gpu, 16_384, 512)
        assert taken in [forecast.placement for forecast in forecasts(size, gpu, 16_384, 512) if forecast.fits]


def test_a_run_continues_in_the_number_formats_that_it_began_with_where_they_fit() -> None:
    """Another program takes some of the GPU's memory: 32-bit moments still fit, with smaller microbatches."""
    settings, machine = settings_with(tokens_per_microbatch="auto", memory="auto", tokens_per_step=16_384)
    arguments = (settings, machine, MEDIUM, torch.device("cuda"), torch.bfloat16, 512)
    free = choose.choose_placement(*arguments, usable_bytes(24 * GIB))
    busy = choose.choose_placement(*arguments, usable_bytes(12 * GIB))
    kept = choose.choose_placement(*arguments, usable_bytes(12 * GIB), {("bfloat16", 32)})
    assert (free.plan.name, busy.plan.name, kept.plan.name) == ("fast", "compact", "fast")
    assert kept.peak <= usable_bytes(12 * GIB)
    tight = choose.choose_placement(*arguments, usable_bytes(5 * GIB), {("bfloat16", 32)})
    assert tight.plan.moment_bits < 32, "they do not fit"


def test_a_plan_for_gpus_on_a_cpu_is_refused_in_one_line() -> None:
    _, machine = settings_with(memory="lean", device="cpu")
    with pytest.raises(
        SettingsError, match=r"^machine\.memory is 'lean', a plan for GPUs, but training runs on the CPU"
    ):
        choose.check_machine(machine)


def placed(base: str, gib: float, **changes: Any) -> Placement:
    """The placement of a base on a GPU with this memory, with changes of settings."""
    settings, machine = settings_with(**{"tokens_per_microbatch": "auto", "memory": "auto", **changes})
    budget = usable_bytes((machine.memory if isinstance(machine.memory, float) else gib) * GIB)
    return choose.choose_placement(settings, machine, SIZES[base], torch.device("cuda"), torch.bfloat16, 512, budget)


def test_a_document_longer_than_a_step_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"train.tokens_per_step is 256, but a document may have 512 tokens; raise"):
        list(placements(MEDIUM, PLANS, 256, 512))


def test_forecasts_show_every_plan_and_what_fits() -> None:
    found = forecasts(SIZES["gpt2-xl"], gpu_of(12), 16_384, 512)
    assert [(each.placement.plan.name, each.fits) for each in found] == [
        ("fast", False),
        ("compact", True),
        ("lean", True),
        ("leanest", True),
        ("float32", False),
    ]
    assert all(0 < each.speed <= 1 for each in found)
    assert forecasts(MEDIUM, gpu_of(80), 16_384, 512)[0].speed == 1


def test_a_gpu_without_bfloat16_has_the_float32_plan_only() -> None:
    gpu = GPU("an old gpu", 24 * GIB, bfloat16=False)
    assert [each.placement.plan.name for each in forecasts(MEDIUM, gpu, 4096, 512) if each.allowed] == ["float32"]
    chosen = automatic(MEDIUM, gpu, 4096, 512)
    assert not isinstance(chosen, SettingsError)
    assert chosen.plan is FLOAT32


@pytest.mark.parametrize(
    ("gib", "base"),
    [(2, None), (3.8, "gpt2"), (8, "gpt2-medium"), (11.7, "gpt2-medium"), (12, "gpt2-medium"), (15.7, "gpt2-large"),
     (23.6, "gpt2-xl"), (80, "gpt2-xl")],
)  # fmt: skip
def test_the_recommended_base(gib: float, base: str | None) -> None:
    assert promises.recommended(gib * GIB) == base


def test_each_base_needs_less_than_half_of_what_was_promised() -> None:
    for promise in promises.PROMISES:
        assert promises.need(promise.base, SIZES[promise.base]).gib * GIB < promise.gigabytes * 10**9 / 2


def test_a_measured_need_replaces_the_prediction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(promises.MEASURED_GIB, "gpt2", 0.75)
    assert promises.need("gpt2", SIZES["gpt2"]) == promises.Need(0.75, measured=True)


def test_a_probe_trains_a_new_model_on_random_tokens(tmp_path: Path) -> None:
    """The run that a probe measures, here on the CPU."""
    size = Size(layers=2, width=32, columns=128, positions=96)
    run = random_run(
        size,
        2,
        Placement(FLOAT32, 128, 0),
        96,
        SETTINGS.model_copy(update={"tokens_per_step": 256}),
        tmp_path,
        torch.device("cpu"),
    )
    assert choose.size_of(run.model) == size
    assert int(run.samples.lengths.max()) == 96
    records = list(islice(train(run), STEPS))
    assert [record["kind"] for record in records] == ["step"] * STEPS
    assert records[0]["loss"] == pytest.approx(math.log(128), rel=0.1)
    assert min(record["tokens"] for record in records) > 256 - 96
    assert not list((tmp_path / "run").glob("*.safetensors"))
