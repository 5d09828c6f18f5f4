"""Check that every memory plan reaches the loss of plain AdamW in float32, and that two GPUs reach the loss of one.

    python benchmarks/numerics_gpu.py [--seeds 3] [--epochs 8] [--preset small]

A new model on the shipped conversations (Datasets/tokens; run `dvc repro tokenize` first), in steps of 4,096 tokens,
without dropout, is trained once with each plan and seed; `exact` computes everything in float32. The script prints the
mean of the validation losses over the seeds, their standard deviation, the mean train loss of the last epoch, and the
largest difference of a step's loss from that of `exact` with the same seed. With two GPUs, `2 x NAME` is the same run
on both.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

CASES = {1: ("exact", "float32", "fast", "compact", "lean", "leanest"), 2: ("float32", "fast")}
"""By the number of GPUs."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--preset", default="small")
    parser.add_argument("--gpus", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.gpus:
        train_cases(arguments)
    else:
        compare(arguments)


def compare(arguments: argparse.Namespace) -> None:
    import torch

    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, scratch:{arguments.preset}\n")
    print("| plan | validation loss | standard deviation | train loss, last epoch | furthest from exact |")
    print("|---|---|---|---|---|")
    exact: list[list[float]] = []
    for gpus in range(1, 1 + min(2, torch.cuda.device_count())):
        for case, runs in _runs(gpus, arguments).items():
            exact = exact or [run["losses"] for run in runs]
            name = case if gpus == 1 else f"{gpus} x {case}"
            print(f"| {name} | {_figures(runs, exact)} |", flush=True)


def _figures(runs: list[dict[str, Any]], exact: list[list[float]]) -> str:
    pairs = [pair for run, one in zip(runs, exact, strict=True) for pair in zip(run["losses"], one, strict=True)]
    apart = max(abs(ours / theirs - 1) for ours, theirs in pairs)
    validation, end = ([run[name] for run in runs] for name in ("validation", "end"))
    spread = statistics.stdev(validation) if len(validation) > 1 else 0.0
    return f"{statistics.fmean(validation):.4f} | {spread:.4f} | {statistics.fmean(end):.4f} | {apart:.2%}"


def _runs(gpus: int, arguments: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """Return the runs of all cases on this many GPUs, by case; each GPU has a process."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={gpus}"]
    options = [f"--{name}={getattr(arguments, name)}" for name in ("seeds", "epochs", "preset")]
    command = [sys.executable, *(torchrun if gpus > 1 else []), __file__, f"--gpus={gpus}", *options]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, list[dict[str, Any]]] = json.loads(output.splitlines()[-1])
    return found


def train_cases(arguments: argparse.Namespace) -> None:
    from theta.machine.process import prepare_gpu

    prepare_gpu()
    import torch

    from theta.train.distributed import joined

    with joined(torch.device("cuda")) as ranks:
        seeds = range(arguments.seeds)
        found = {case: [_train(case, seed, arguments, ranks) for seed in seeds] for case in CASES[ranks.count]}
        if ranks.first:
            print("\n" + json.dumps(found))


def _train(case: str, seed: int, arguments: argparse.Namespace, ranks: Any) -> dict[str, Any]:
    from theta.bases.presets import preset
    from theta.machine.settings import MachineSettings
    from theta.model import network
    from theta.settings import load
    from theta.tokens.store import Store
    from theta.tokens.vocabulary import Vocabulary
    from theta.train.automatic import PRETRAINED, Amount, resolve
    from theta.train.choose import choose_compute
    from theta.train.loop import train
    from theta.train.run import Run
    from theta.train.samples import Samples
    from theta.train.settings import TrainSection

    tokens, size = ROOT / "Datasets" / "tokens", preset(arguments.preset)
    documents, validation = (Store(tokens / f"{name}.arrow") for name in ("train", "validation"))
    vocabulary_size = Vocabulary.load(tokens / "tokenizer").size
    changes = {"epochs": arguments.epochs, "tokens_per_step": 4096, "learning_rate": 1e-3, "dropout": 0.0, "seed": seed}
    on_gpu = {"memory": case, "steps_per_checkpoint": 10**6, "device": "cuda", "compile": "never"}
    if case == "exact":
        on_gpu |= {"memory": "float32", "precision": "float32"}
    section = load(ROOT / "params.yaml", "train", TrainSection)
    settings = resolve(section, PRETRAINED[0], Amount(1, 1, 1)).model_copy(update=changes)
    machine = load(ROOT / "params.yaml", "machine", MachineSettings).model_copy(update=on_gpu)
    model = network.new(size.layers, size.heads, size.width, seed=seed)
    network.resize(model, vocabulary_size)
    samples = Samples(documents, epochs=settings.epochs, seed=settings.seed)
    compute = choose_compute(settings, machine, model, vocabulary_size, samples, validation, ranks=ranks)
    with tempfile.TemporaryDirectory() as folder:
        run = Run(model, samples, validation, settings, compute, Path(folder), machine.steps_per_checkpoint, None)
        records = list(train(run))
    losses = [record["loss"] for record in records if record["kind"] == "step"]
    end = statistics.fmean(losses[-(len(losses) // arguments.epochs) :])
    return {"validation": records[-1]["loss"], "end": end, "losses": losses}


if __name__ == "__main__":
    main()
