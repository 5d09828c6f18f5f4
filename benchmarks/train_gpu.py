"""Training on a GPU: throughput, memory and loss of Theta's plans and of common alternatives.

    python benchmarks/train_gpu.py [--models gpt2-medium] [--cases fast lean trainer ...] [--steps 40]

The models are new ones of GPT-2's four shapes. Throughput and peak memory are measured on random tokens of the lengths
in benchmarks/conversation_lengths.csv (cut at 512 tokens); the validation loss is measured on the shipped conversations
(Datasets/tokens, run `dvc repro tokenize` first) after the same number of tokens in steps of 4,096, where no case
compiles, since compiling would take longer than the run. Real tokens are counted, without padding. Each case has a
process of its own, or one for each of its GPUs. `of linear` is the speed of several GPUs as a share of that many times
the speed of one in the same run, for cases that name one number of tokens a step, or none. `sum` is the time of adding
up the gradients of all GPUs, measured alone after training, beside that of a whole step.

    fast, compact, lean, leanest, float32   Theta, machine.memory set to that plan, 32,768 tokens a step
    leanest@2048    the same with 2,048 tokens a step, in one microbatch
    12              Theta, machine.memory set to 12 GiB, and torch limited to them
    2xfast, 4xfast, 8xfast   Theta on that many GPUs, 32,768 tokens a step for each of them
    4xfast@131072   the same with 131,072 tokens a step in all
    nanogpt         one stream of tokens, documents not isolated: transformers' model compiled, bfloat16 autocast
    trl             SFTTrainer of trl: packed rows of 512, 32 a batch, no recompute
    trainer         the Hugging Face Trainer: bfloat16, padded, 8 rows a batch
"""

import argparse
import csv
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

SHAPES = {"gpt2": (12, 12, 768), "gpt2-medium": (24, 16, 1024), "gpt2-large": (36, 20, 1280), "gpt2-xl": (48, 25, 1600)}
CASES = ("fast", "compact", "lean", "leanest@2048", "float32", "12", "nanogpt", "trl", "trainer")
COLUMNS = (
    *("model", "case", "real tokens/s", "of linear", "MFU", "peak GiB", "predicted", "sum"),
    *("shipped: tokens/s", "loss", "how"),
)
PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
LONGEST, VOCABULARY_SIZE = 512, 50_262
TOKENS_PER_STEP, SHIPPED_TOKENS_PER_STEP = 32_768, 4_096
WARMUP_STEPS, PEER_STEPS, PEER_WARMUP_STEPS = 8, 30, 5
SHIPPED_EPOCHS = 4
SUMS = 21
LEARNING_RATE = 3e-4
DEVICE = "cuda"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=SHAPES, default=["gpt2-medium"])
    parser.add_argument("--cases", nargs="+", default=CASES, metavar="CASE")
    parser.add_argument("--steps", type=int, default=40, help="measured steps of each case")
    parser.add_argument("--no-loss", action="store_true", help="throughput and memory only")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        found = run_case(*arguments.measure, arguments.steps, not arguments.no_loss)
        if os.environ.get("RANK", "0") == "0":
            print("\n" + json.dumps(found))
    else:
        compare(arguments)


def compare(arguments: argparse.Namespace) -> None:
    print_machine()
    print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|", flush=True)
    for model in arguments.models:
        alone: dict[str, float] = {}
        for case in arguments.cases:
            print(f"| {model} | {case} | {_row(model, case, arguments, alone)} |", flush=True)


def _row(model: str, case: str, arguments: argparse.Namespace, alone: dict[str, float]) -> str:
    """Measure a case; `alone` is the speed of each case on one GPU, by its name."""
    options = [f"--steps={arguments.steps}", *(["--no-loss"] if arguments.no_loss else [])]
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={gpus(case)}"]
    command = [sys.executable, *(torchrun if gpus(case) > 1 else []), __file__, "--measure", model, case, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return "failed: " + (done.stderr.strip().splitlines() or ["no word"])[-1][:300]
    found = json.loads(next(line for line in reversed(done.stdout.splitlines()) if line.startswith("{")))
    shipped = (
        f"{found['shipped_tokens_per_second']:,.0f} | {found['loss']:.3f}"
        if "shipped_tokens_per_second" in found
        else " | "
    )
    predicted = f"{found['predicted_gib']:.2f}" if "predicted_gib" in found else ""
    speed, count = found["tokens_per_second"], gpus(case)
    if count == 1:
        alone[case] = speed
    one = alone.get(case.removeprefix(f"{count}x"))
    linear = f"{speed / one / count:.1%}" if one and count > 1 else ""
    peaks = ", ".join(f"{peak:.2f}" for peak in found["peak_gib"])
    added = f"{found['sum_ms']:.2f} of {found['step_ms']:.1f} ms" if "sum_ms" in found else ""
    return (
        f"{speed:,.0f} | {linear} | {found['mfu']:.0%} | {peaks} | {predicted} | {added} | {shipped} | {found['how']}"
    )


def gpus(case: str) -> int:
    return int(case[0]) if case[1:2] == "x" else 1


def print_machine() -> None:
    import torch
    import transformers

    gpu = f"{torch.cuda.get_device_name()} ({torch.cuda.device_count()})"
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    print(f"{gpu}, {time.strftime('%Y-%m-%d')}, Python {platform.python_version()}, {versions}\n")


def run_case(model: str, case: str, steps: int, with_loss: bool) -> dict[str, Any]:
    """Measure throughput and memory, then, in the same process, the loss on the shipped conversations."""
    from theta.machine.process import keep_large_buffers, prepare_gpu

    keep_large_buffers()
    prepare_gpu()
    import torch

    from theta.train.distributed import joined

    measure: Callable[[Task], dict[str, Any]] = {"nanogpt": nanogpt, "trl": trl, "trainer": trainer}.get(case, theta)
    with tempfile.TemporaryDirectory() as folder, joined(torch.device(DEVICE)) as ranks:
        found = measure(lengths_task(model, case, Path(folder), steps + WARMUP_STEPS, ranks))
        found["peak_gib"] = ranks.all_of(torch.cuda.max_memory_allocated() / 2**30)
        found["mfu"] = _flops(model) * found["tokens_per_second"] / _peak() / ranks.count
        if with_loss:
            torch.cuda.empty_cache()
            shipped = measure(shipped_task(model, case, Path(folder), ranks))
            found |= {"shipped_tokens_per_second": shipped["tokens_per_second"], "loss": shipped["loss"]}
    return found


def _flops(model: str) -> float:
    """Operations of a token forward and backward: 6 a weight, and attention over half of a mean document."""
    layers, _, width = SHAPES[model]
    return 6 * (50_257 * width + layers * 12 * width**2) + 6 * layers * width * 189


def _peak() -> float:
    import torch

    name = torch.cuda.get_device_name()
    return next((peak for part, peak in PEAK_FLOPS.items() if part in name), float("nan"))


@dataclass
class Task:
    """What a case trains."""

    model: str
    case: str
    store: Any
    validation: Any
    epochs: int
    tokens_per_step: int
    folder: Path
    ranks: Any
    measure_loss: bool

    @property
    def steps(self) -> int:
        """The steps of trainers that count their own."""
        return self.epochs * int(self.store.lengths.sum()) // self.tokens_per_step


def lengths_task(model: str, case: str, folder: Path, steps: int, ranks: Any) -> Task:
    """Random tokens of the lengths of real conversations, for this many full steps and a part of one, in one epoch."""
    import numpy as np

    from theta.tokens.store import Document, Store, write

    with (ROOT / "benchmarks" / "conversation_lengths.csv").open(encoding="utf-8") as file:
        lengths = [(int(row["prompt_tokens"]), int(row["reply_tokens"])) for row in csv.DictReader(file)]
    tokens_per_step = int(case.partition("@")[2] or TOKENS_PER_STEP * gpus(case))
    random, documents, tokens = np.random.default_rng(0), [], 0
    while tokens < steps * tokens_per_step:
        prompt, reply = lengths[len(documents) % len(lengths)]
        length = min(prompt + reply, LONGEST)
        learned = [place >= min(prompt, length - 1) for place in range(length)]
        ids = random.integers(VOCABULARY_SIZE, size=length).tolist()
        documents.append(Document(ids, learned, "random", f"lengths#{len(documents)}", length))
        tokens += length
    stores = [folder / f"{name}{ranks.rank}.arrow" for name in ("train", "validation")]
    write(stores[0], documents)
    write(stores[1], documents[:50])
    return Task(model, case, *map(Store, stores), 1, tokens_per_step, folder / "run", ranks, False)


def shipped_task(model: str, case: str, folder: Path, ranks: Any) -> Task:
    """The shipped conversations, some epochs."""
    from theta.tokens.store import Store

    stores = [Store(ROOT / "Datasets" / "tokens" / f"{split}.arrow") for split in ("train", "validation")]
    return Task(model, case, *stores, SHIPPED_EPOCHS, SHIPPED_TOKENS_PER_STEP, folder / "shipped", ranks, True)


def new_model(name: str) -> Any:
    import torch

    from theta.model import network

    torch.set_default_device(DEVICE)
    try:
        torch.manual_seed(0)
        model = network.new(*SHAPES[name], seed=0)
    finally:
        torch.set_default_device(None)
    return model


def theta(task: Task) -> dict[str, Any]:
    import torch

    from theta.memory.plans import peak_bytes
    from theta.model import network
    from theta.train.choose import choose_compute, size_of
    from theta.train.loop import train
    from theta.train.run import Run
    from theta.train.samples import Samples

    memory = task.case.partition("@")[0].removeprefix(f"{gpus(task.case)}x")
    budget = float(memory) if memory[0].isdigit() else None
    settings, machine = settings_of(task, budget or memory)
    model = new_model(task.model).cpu()
    torch.cuda.empty_cache()
    if budget:
        torch.cuda.set_per_process_memory_fraction(budget * 2**30 / torch.cuda.get_device_properties(0).total_memory)
    network.resize(model, VOCABULARY_SIZE)
    torch.cuda.reset_peak_memory_stats()
    samples = Samples(task.store, epochs=settings.epochs, seed=settings.seed)
    compute = choose_compute(settings, machine, model, VOCABULARY_SIZE, samples, task.validation, ranks=task.ranks)
    tokens = min(compute.tokens_per_microbatch, task.tokens_per_step // task.ranks.count)
    predicted = peak_bytes(size_of(model), compute.plan, tokens)
    run = Run(model, samples, task.validation, settings, compute, task.folder, machine.steps_per_checkpoint, None)
    meter, loss = Meter(), float("nan")
    for record in train(run):
        if record["kind"] == "step":
            meter.add(record["tokens"], record["seconds"])
        else:
            loss = record["loss"]
    how = f"{compute.plan.name}, {tokens:,} tokens a microbatch"
    found = {**meter.result(), "loss": loss, "predicted_gib": predicted / 2**30, "how": how}
    if task.ranks.count > 1:
        found["sum_ms"] = sum_milliseconds(task.ranks, size_of(model).parameters, compute.plan.weights)
    return found


def settings_of(task: Task, memory: float | str) -> tuple[Any, Any]:
    """Return the sections `train` and `machine` of params.yaml, resolved and with what the task fixes."""
    from theta.machine.settings import MachineSettings
    from theta.settings import load
    from theta.train.automatic import PRETRAINED, Amount, resolve
    from theta.train.settings import TrainSection

    of_train = {
        "epochs": task.epochs,
        "tokens_per_step": task.tokens_per_step,
        "learning_rate": LEARNING_RATE,
        "warmup_fraction": 0.1,
        "dropout": 0.0,
    }
    of_machine = {
        "memory": memory,
        "compile": "auto" if task.measure_loss else "always",
        "steps_per_checkpoint": 10**6,
        "device": DEVICE,
    }
    section = load(ROOT / "params.yaml", "train", TrainSection)
    settings = resolve(section, PRETRAINED[0], Amount(1, 1, 1)).model_copy(update=of_train)
    return settings, load(ROOT / "params.yaml", "machine", MachineSettings).model_copy(update=of_machine)


def sum_milliseconds(ranks: Any, parameters: int, number_format: str) -> float:
    """Median time of adding up this many gradients over all ranks, with nothing else running."""
    import torch

    gradients = torch.randn(parameters, device=DEVICE, dtype=getattr(torch, number_format))
    times = []
    for _ in range(SUMS):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        ranks.wait()
        begin.record()
        ranks.add_up([gradients])
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return statistics.median(times)


def peer_loss(model: Any, task: Task) -> dict[str, float]:
    """Nats per learned token of the validation split, measured as Theta does it."""
    import torch

    from theta.evaluate.likelihood import measure

    if not task.measure_loss:
        return {}
    scores = measure(model.float(), task.validation, VOCABULARY_SIZE, 4096, torch.device(DEVICE))
    return {"loss": float(scores.nats.sum() / task.validation.learned_counts.sum())}


def nanogpt(task: Task) -> dict[str, Any]:
    """Rows of 512 tokens cut from one stream, without the borders of documents."""
    import numpy as np
    import torch

    model = _peer_model(task)
    model.resize_token_embeddings(50_304, mean_resizing=False)
    pairs = [task.store[document] for document in range(len(task.store))]
    stream = [torch.tensor(np.concatenate(parts), device=DEVICE).long() for parts in zip(*pairs, strict=True)]
    groups = [
        {"params": [p for p in model.parameters() if p.dim() > 1], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(0.9, 0.95), fused=True)
    run, meter = model if task.measure_loss else torch.compile(model), Meter()
    for step in range(task.steps):
        begin = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * _factor(step, task.steps)
        starts = torch.randint(len(stream[0]) - LONGEST, (task.tokens_per_step // LONGEST, 1), device=DEVICE)
        ids, labels = (part[starts + torch.arange(LONGEST, device=DEVICE)] for part in stream)
        with torch.autocast(DEVICE, torch.bfloat16):
            loss = run(ids, labels=labels, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        torch.cuda.synchronize()
        meter.add(task.tokens_per_step, time.perf_counter() - begin)
    return {**meter.result(), "how": "documents not isolated", **peer_loss(model, task)}


def _factor(step: int, steps: int) -> float:
    from theta.optim.schedule import learning_rate_factor

    return learning_rate_factor(step, steps=steps, warmup_steps=round(0.1 * steps), final_fraction=0.1)


def trl(task: Task) -> dict[str, Any]:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    records = [
        {"input_ids": ids.tolist(), "completion_mask": (labels >= 0).astype(int).tolist()}
        for ids, labels in (task.store[document] for document in range(len(task.store)))
    ]
    rows = SHIPPED_TOKENS_PER_STEP // LONGEST if task.measure_loss else 32
    extra = {"packing": True, "max_length": LONGEST, "gradient_checkpointing": False}
    meter = Meter(PEER_WARMUP_STEPS)
    peer = SFTTrainer(
        _peer_model(task),
        SFTConfig(**_trainer_settings(task, rows), **extra),
        train_dataset=Dataset.from_list(records),
        processing_class=_tokenizer(),
        callbacks=[_count(meter)],
    )
    collate = peer.data_collator
    peer.data_collator = lambda features: _counted(collate(features), meter)
    peer.train()
    return {**meter.result(), "how": "dense mask", **peer_loss(peer.model, task)}


def trainer(task: Task) -> dict[str, Any]:
    import torch
    from transformers import Trainer, TrainingArguments

    pairs = [task.store[document] for document in range(len(task.store))]
    documents = [{"input_ids": torch.tensor(ids), "labels": torch.tensor(labels)} for ids, labels in pairs]
    meter = Meter(PEER_WARMUP_STEPS)
    pad = torch.nn.utils.rnn.pad_sequence

    def collate(features: list[dict[str, Any]]) -> dict[str, Any]:
        ids = pad([feature["input_ids"].long() for feature in features], batch_first=True)
        labels = pad([feature["labels"].long() for feature in features], batch_first=True, padding_value=-100)
        mask = pad([torch.ones(len(feature["input_ids"])) for feature in features], batch_first=True).long()
        return _counted({"input_ids": ids, "labels": labels, "attention_mask": mask}, meter)

    rows = round(SHIPPED_TOKENS_PER_STEP / task.store.lengths.mean()) if task.measure_loss else 8
    settings = TrainingArguments(**_trainer_settings(task, rows))
    peer = Trainer(_peer_model(task), settings, collate, documents, callbacks=[_count(meter)])
    peer.train()
    return {**meter.result(), "how": "padded", **peer_loss(peer.model, task)}


def _trainer_settings(task: Task, rows: int) -> dict[str, Any]:
    steps = task.steps if task.measure_loss else PEER_STEPS
    return {
        "output_dir": str(task.folder),
        "max_steps": steps,
        "per_device_train_batch_size": rows,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "cosine",
        "warmup_steps": round(0.1 * steps),
        "bf16": True,
        "save_strategy": "no",
        "report_to": "none",
        "logging_strategy": "no",
        "disable_tqdm": True,
    }


def _peer_model(task: Task) -> Any:
    model = new_model(task.model)
    model.resize_token_embeddings(VOCABULARY_SIZE, mean_resizing=False)
    _no_dropout(model)
    return model


def _no_dropout(model: Any) -> None:
    from theta.model.network import set_dropout

    set_dropout(model, 0.0)
    for block in model.transformer.h:
        block.attn.attn_dropout.p = 0.0


def _tokenizer() -> Any:
    from transformers import PreTrainedTokenizerFast

    tokenizer = ROOT / "Datasets" / "tokens" / "tokenizer" / "tokenizer.json"
    return PreTrainedTokenizerFast(tokenizer_file=str(tokenizer), eos_token="<|end|>", pad_token="<|pad|>")


def _counted(batch: dict[str, Any], meter: "Meter") -> dict[str, Any]:
    mask = batch.get("attention_mask")
    meter.batches.append(int(mask.sum()) if mask is not None else batch["input_ids"].numel())
    return batch


def _count(meter: "Meter") -> Any:
    import torch
    from transformers import TrainerCallback

    class Count(TrainerCallback):
        def on_step_begin(self, *_arguments: Any, **_others: Any) -> None:
            self.begin = time.perf_counter()

        def on_step_end(self, _arguments: Any, state: Any, *_others: Any, **_more: Any) -> None:
            torch.cuda.synchronize()
            meter.add(meter.batches[state.global_step - 1], time.perf_counter() - self.begin)

    return Count()


class Meter:
    """Real tokens and the seconds of steps, after some to warm up."""

    def __init__(self, warmup: int = WARMUP_STEPS) -> None:
        self.warmup, self.batches = warmup, []
        self.steps: list[tuple[int, float]] = []

    def add(self, tokens: int, seconds: float) -> None:
        """Count a step."""
        self.steps.append((tokens, seconds))

    def result(self) -> dict[str, float]:
        """The mean and the median of the steps, whose difference shows waits for the host; the last is not full."""
        measured = self.steps[self.warmup : -1]
        mean = sum(tokens for tokens, _ in measured) / sum(seconds for _, seconds in measured)
        median = statistics.median(tokens / seconds for tokens, seconds in measured)
        step_ms = 1000 * statistics.median(seconds for _, seconds in measured)
        return {"tokens_per_second": mean, "median_tokens_per_second": median, "step_ms": step_ms}


if __name__ == "__main__":
    main()
