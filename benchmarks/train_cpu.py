"""Training throughput on a CPU: Theta's loop against the Hugging Face Trainer.

    python benchmarks/train_cpu.py [--rounds 3] [--seconds 20] [--threads 2] [--preset mini]

All cases train the same new model on the same encoded conversations (Datasets/tokens/train.arrow; run `dvc repro
tokenize` first) with the same number of threads. Real tokens are counted, without padding. Each case runs in a process
of its own, and the cases take turns, so that a machine whose speed drifts treats them alike; the script prints medians
over the rounds.

    trainer-defaults   TrainingArguments by default: batch 8, float32, dropout 0.1 from the model's config
    trainer-best       bfloat16, fused AdamW, batches of similar lengths, no dropout
    theta              params.yaml as shipped

    python benchmarks/train_cpu.py --busy [--rounds 3] [--seconds 5] [--threads 2]

Theta on an idle machine and next to a process that keeps one core busy: training the starter on the samples of
the shipped run (wordings, openings and chats, without rehearsal) in steps of 512 tokens, and single replies of the
starter, for three ways in which threads can wait for each other. Nothing else should run.

    theta              asleep while other processes want the CPUs, else spinning (theta/machine/cpu_sharing.py)
    spinning           GNU OpenMP's default
    asleep             GOMP_SPINCOUNT=0
"""

import argparse
import itertools
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

CASES = ("trainer-defaults", "trainer-best", "theta")
WARMUP_STEPS = 3

WAITING = {"theta": {}, "spinning": {"GOMP_SPINCOUNT": "300000"}, "asleep": {"GOMP_SPINCOUNT": "0"}}
NEIGHBOUR = "import os, sys\nwhile os.getppid() == int(sys.argv[1]):\n  for _ in range(10**6): pass"
"""Ends with its parent, even if that is killed."""
QUESTION = "What is a process in Linux, and how do I list them?"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20, help="measured time of each case and round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--preset", default="mini", help="size of the new model: nano, mini or small")
    parser.add_argument("--busy", action="store_true", help="compare an idle machine with a busy one")
    parser.add_argument("--case", choices=[*CASES, "train", "generate"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        measure = {"theta": theta, "train": train_starter, "generate": generate}.get(arguments.case, trainer)
        print(json.dumps(measure(arguments)))
    elif arguments.busy:
        compare_busy(arguments)
    else:
        compare(arguments)


def compare(arguments: argparse.Namespace) -> None:
    results: dict[str, list[dict[str, float]]] = {case: [] for case in CASES}
    for _ in range(arguments.rounds):
        for case in CASES:
            results[case].append(run_case(case, arguments, {}))
    print_machine(arguments)
    ours = statistics.median(result["tokens_per_second"] for result in results["theta"])
    print("| case | real tokens/s (median of rounds) | min to max | peak memory, GB | theta is |")
    print("|---|---|---|---|---|")
    for case, runs in results.items():
        speeds = [run["tokens_per_second"] for run in runs]
        median, memory = statistics.median(speeds), max(run["peak_gigabytes"] for run in runs)
        spread = f"{min(speeds):,.0f} to {max(speeds):,.0f}"
        print(f"| {case} | {median:,.0f} | {spread} | {memory:.1f} | {ours / median:.1f}x |")


def compare_busy(arguments: argparse.Namespace) -> None:
    cases = list(itertools.product(("train", "generate"), WAITING))
    speeds: dict[tuple[str, str, bool], list[float]] = defaultdict(list)
    for _ in range(arguments.rounds):
        for (case, waiting), busy in itertools.product(cases, (False, True)):
            with neighbour() if busy else nullcontext():
                result = run_case(case, arguments, WAITING[waiting])
            speeds[case, waiting, busy].append(result["tokens_per_second"])
    print_machine(arguments)
    print("| case | threads wait | idle, tokens/s | busy, tokens/s | busy / idle |")
    print("|---|---|---|---|---|")
    for case, waiting in cases:
        idle, busy = (statistics.median(speeds[case, waiting, busy]) for busy in (False, True))
        print(f"| {case} | {waiting} | {idle:,.0f} | {busy:,.0f} | {busy / idle:.0%} |")


@contextmanager
def neighbour() -> Iterator[None]:
    """A process that keeps one core busy."""
    process = subprocess.Popen([sys.executable, "-c", NEIGHBOUR, str(os.getpid())])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def run_case(case: str, arguments: argparse.Namespace, environment: dict[str, str]) -> dict[str, float]:
    """Run a case in a process of its own, and return what it prints."""
    options = [f"--{name}={getattr(arguments, name)}" for name in ("seconds", "threads", "preset")]
    command = [sys.executable, __file__, "--case", case, *options]
    output = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | environment).stdout
    return json.loads(output.splitlines()[-1])


def print_machine(arguments: argparse.Namespace) -> None:
    import torch
    import transformers

    lines = Path("/proc/cpuinfo").read_text().splitlines()
    processor = next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.processor())
    print(
        f"{processor}, {arguments.threads} threads, scratch:{arguments.preset}; Python {platform.python_version()}, ",
        end="",
    )
    print(f"torch {torch.__version__}, transformers {transformers.__version__}\n")


def theta(arguments: argparse.Namespace, base: str | None = None) -> dict[str, float]:
    """Run Theta's loop from a new model, or from a base."""
    from theta.machine.process import keep_large_buffers, set_threads

    keep_large_buffers()
    from theta.machine.cpu_sharing import share_cpus
    from theta.machine.settings import MachineSettings
    from theta.model import network
    from theta.settings import load
    from theta.train.automatic import PRETRAINED, Amount, resolve
    from theta.train.choose import choose_compute
    from theta.train.loop import train
    from theta.train.run import Run
    from theta.train.samples import Samples, samples_of
    from theta.train.settings import TrainSection

    set_threads(arguments.threads)
    share_cpus()
    section = load(ROOT / "params.yaml", "train", TrainSection)
    settings = resolve(section, PRETRAINED[0], Amount(1, 1, 1)).model_copy(update={"epochs": 100})
    machine = load(ROOT / "params.yaml", "machine", MachineSettings).model_copy(update={"device": "cpu"})
    store, validation, model, vocabulary = inputs(arguments.preset)
    samples = Samples(store, epochs=settings.epochs, seed=settings.seed)
    if base:
        model = network.load(ROOT / base)
        settings = settings.model_copy(update={"epochs": 10})
        samples = samples_of(store, settings, vocabulary, settings.tokens_per_step)
    network.resize(model, vocabulary.size)
    compute = choose_compute(settings, machine, model, vocabulary.size, samples, validation)
    with tempfile.TemporaryDirectory() as resume:
        run = Run(model, samples, validation, settings, compute, Path(resume), machine.steps_per_checkpoint, None)
        meter = Meter(arguments.seconds)
        for record in train(run):
            if record["kind"] == "step" and meter.done(record["tokens"], record["seconds"]):
                break
    return meter.result()


def train_starter(arguments: argparse.Namespace) -> dict[str, float]:
    return theta(arguments, base="models/starter")


def generate(arguments: argparse.Namespace) -> dict[str, float]:
    from theta import ThetaModel
    from theta.machine.process import set_threads

    set_threads(arguments.threads)
    model, meter = ThetaModel.load(ROOT / "models/starter", device="cpu"), Meter(arguments.seconds)
    for seed in itertools.count():
        begin = time.perf_counter()
        [reply] = model.generate_batch([QUESTION], seed=seed, max_length=64)
        if meter.done(reply.tokens, time.perf_counter() - begin):
            break
    return meter.result()


def trainer(arguments: argparse.Namespace) -> dict[str, float]:
    import torch
    from transformers import Trainer, TrainerCallback, TrainingArguments
    from transformers.utils import logging

    torch.set_num_threads(arguments.threads)
    logging.disable_progress_bar()
    store, _, model, vocabulary = inputs(arguments.preset)
    model.resize_token_embeddings(vocabulary.size, mean_resizing=False)
    best = arguments.case == "trainer-best"
    if best:
        from theta.model.network import set_dropout

        set_dropout(model, 0.0)
        for block in model.transformer.h:
            block.attn.attn_dropout.p = 0.0
    pairs = [store[i] for i in range(len(store))]
    documents = [{"input_ids": torch.tensor(ids), "labels": torch.tensor(labels)} for ids, labels in pairs]
    seen: list[int] = []

    def collate(features: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        seen.append(sum(len(feature["input_ids"]) for feature in features))
        return padded(features)

    meter = Meter(arguments.seconds)

    class Stop(TrainerCallback):
        def on_step_begin(self, *_arguments, **_others) -> None:
            self.begin = time.perf_counter()

        def on_step_end(self, _arguments, state, control, **_others) -> None:
            control.should_training_stop = meter.done(seen[state.global_step - 1], time.perf_counter() - self.begin)

    with tempfile.TemporaryDirectory() as output:
        settings = {
            "output_dir": output,
            "num_train_epochs": 100,
            "use_cpu": True,
            "save_strategy": "no",
            "report_to": "none",
        }
        settings |= {"logging_strategy": "no", "disable_tqdm": True}
        if best:
            settings |= {"bf16": True, "optim": "adamw_torch_fused", "train_sampling_strategy": "group_by_length"}
        Trainer(model, TrainingArguments(**settings), collate, documents, callbacks=[Stop()]).train()
    return meter.result()


def padded(features: "list[dict[str, torch.Tensor]]") -> "dict[str, torch.Tensor]":
    """Return a batch as the Trainer's own collator pads it."""
    import torch

    pad = torch.nn.utils.rnn.pad_sequence
    ids = pad([feature["input_ids"].long() for feature in features], batch_first=True)
    labels = pad([feature["labels"].long() for feature in features], batch_first=True, padding_value=-100)
    mask = pad([torch.ones(len(feature["input_ids"])) for feature in features], batch_first=True)
    return {"input_ids": ids, "labels": labels, "attention_mask": mask.long()}


class Meter:
    """Real tokens and the seconds of steps, after some steps to warm up."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.steps, self.tokens, self.elapsed = seconds, 0, 0, 0.0

    def done(self, tokens: int, seconds: float) -> bool:
        """Count a step; return whether enough steps are counted."""
        self.steps += 1
        if self.steps > WARMUP_STEPS:
            self.tokens += tokens
            self.elapsed += seconds
        return self.elapsed > self.seconds

    def result(self) -> dict[str, float]:
        """What a case prints."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        return {"tokens_per_second": self.tokens / self.elapsed, "peak_gigabytes": peak}


def inputs(name: str):
    """The encoded conversations, a new model, and the vocabulary."""
    from theta.bases.presets import preset
    from theta.model import network
    from theta.tokens.store import Store
    from theta.tokens.vocabulary import Vocabulary

    size = preset(name)
    tokens = ROOT / "Datasets" / "tokens"
    model = network.new(size.layers, size.heads, size.width, seed=0)
    stores = [Store(tokens / f"{split}.arrow") for split in ("train", "validation")]
    return *stores, model, Vocabulary.load(tokens / "tokenizer")


if __name__ == "__main__":
    main()
