"""Whether every memory plan trains to the same loss as plain AdamW in float32, and two GPUs to that of one.

    python benchmarks/numerics_gpu.py [--seeds 3] [--epochs 12] [--preset small]

A new model on the shipped conversations (Datasets/tokens; run `dvc repro tokenize` first), in steps of 4,096 tokens,
without dropout, once with each plan and seed; the first row computes everything in float32. Printed are the mean of the
validation losses over the seeds, their standard deviation, and the mean of the train losses of the last epoch. With two
GPUs, `2 x NAME` is the same run on both.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

CASES = ("exact", "float32", "fast", "compact", "lean", "leanest")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--preset", default="small")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        train_seeds(arguments)
    else:
        compare(arguments)


def compare(arguments: argparse.Namespace) -> None:
    import torch

    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, scratch:{arguments.preset}\n")
    print("| plan | validation loss | standard deviation | train loss, last epoch | largest difference on the way |")
    print("|---|---|---|---|---|")
    first: list[list[float]] = []
    for gpus, case in [*((1, case) for case in CASES), *((2, case) for case in ("float32", "fast"))]:
        if gpus > torch.cuda.device_count():
            continue
        runs = _runs(gpus, case, arguments)
        curves = [run["losses"] for run in runs]
        first = first or curves
        apart = max(
            abs(a / b - 1) for one, two in zip(curves, first, strict=True) for a, b in zip(one, two, strict=True)
        )
        validation, end = ([run[name] for run in runs] for name in ("validation", "end"))
        spread = statistics.stdev(validation) if len(validation) > 1 else 0.0
        name = case if gpus == 1 else f"{gpus} x {case}"
        figures = f"{statistics.fmean(validation):.4f} | {spread:.4f} | {statistics.fmean(end):.4f} | {apart:.2%}"
        print(f"| {name} | {figures} |", flush=True)


def _runs(gpus: int, case: str, arguments: argparse.Namespace) -> list[dict]:
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={gpus}"] if gpus > 1 else []
    options = [f"--{name}={getattr(arguments, name)}" for name in ("seeds", "epochs", "preset")]
    command = [sys.executable, *launcher, __file__, "--case", case, *options]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(next(line for line in output.splitlines() if line.startswith("[{")))


def train_seeds(arguments: argparse.Namespace) -> None:
    from theta.train.process import prepare_gpu

    prepare_gpu()
    import torch

    from theta.model import network
    from theta.model.presets import preset
    from theta.params import load
    from theta.tokens.store import Store
    from theta.train.choose import choose_compute
    from theta.train.loop import train
    from theta.train.ranks import joined
    from theta.train.settings import TrainSettings
    from theta.train.state import Run

    size, vocabulary_size = preset(arguments.preset), 50_262
    documents, validation = (Store(ROOT / "Datasets" / "tokens" / f"{name}.arrow") for name in ("train", "validation"))
    changes = {"epochs": arguments.epochs, "tokens_per_step": 4096, "learning_rate": 1e-3, "dropout": 0.0}
    changes |= {"memory": arguments.case, "steps_per_checkpoint": 10**6, "device": "cuda", "compile": "never"}
    if arguments.case == "exact":
        changes |= {"memory": "float32", "precision": "float32"}
    results = []
    with joined(torch.device("cuda")) as ranks, tempfile.TemporaryDirectory() as folder:
        for seed in range(arguments.seeds):
            settings = load(ROOT / "params.yaml", "train", TrainSettings).model_copy(update={**changes, "seed": seed})
            model = network.new(size.layers, size.heads, size.width, seed=seed)
            network.resize(model, vocabulary_size)
            compute = choose_compute(settings, model, vocabulary_size, documents, ranks)
            run = Run(model, documents, validation, settings, compute, Path(folder) / str(seed), os.getppid())
            records = list(train(run))
            losses = [record["loss"] for record in records if record["kind"] == "step"]
            end = statistics.fmean(losses[-(len(losses) // arguments.epochs) :])
            found = {"validation": records[-1]["loss"], "end": end, "losses": losses}
            results.append(found)
        if ranks.first:
            print("\n" + json.dumps(results))


if __name__ == "__main__":
    main()
