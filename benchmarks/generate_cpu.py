"""Single replies on a CPU: Theta against transformers, CTranslate2 and llama.cpp, with the same weights, in one run.

    python benchmarks/generate_cpu.py [--models starter gpt2] [--rounds 2] [--tokens 64] [--threads 2] [--busy]

`starter` is models/starter, the others have the shapes of GPT-2 and random weights in float32, which do not change the
speed. Each case writes replies of exactly `--tokens` tokens to new prompts of `--prompt` tokens, with all six
parameters at Theta's defaults where it has them: CTranslate2 and transformers apply the rules of repetition to the
prompt too, and llama.cpp has no n-gram rule. Each case runs in a process of its own, and the cases take turns, so that
a machine whose speed drifts treats them alike. A round of gpt2's shape takes about 100 seconds on two idle cores. The
script prints medians over all replies of all rounds:

    tokens/s         after the first token
    CPU tokens/s     tokens by a second of processor time, of all threads; other programs change it less
    first token      from the call on, in milliseconds
    load             seconds from the folder to a model that is ready (times those of reading its file)
    memory           peak of the process, MiB
    of bandwidth     bytes of the weights times tokens/s, of what `--threads` threads read in a second
    busy             tokens/s beside a process that keeps one core busy, with --busy

llama.cpp needs llama-cpp-python and gguf, CTranslate2 its package; cases that are not installed are left out. So is
int8 for a model that Theta refuses, which the script then says.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from benchmarks.train_cpu import neighbour  # noqa: E402

Times = tuple[float, float]
"""The time and the processor time of this process."""
Stream = Callable[[list[int], int], Iterator[Times]]
"""Writes a reply of the given number of tokens to a prompt; yields the times at each token."""

SECONDS_TO_SETTLE, WARM_UP_TOKENS = 2.5, 8
"""Before the measurement. For two seconds after the threads of loading, Theta takes the machine for busy."""

WEIGHT_BYTES = {"float32": 4, "bfloat16": 2, "int8": 1, "q8_0": 34 / 32}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["starter", "gpt2"], help="starter, gpt2, gpt2-medium, ...")
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=CASES)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--replies", type=int, default=2, help="of each case and round")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--prompt", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--busy", action="store_true", help="also beside a process that keeps one core busy")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(options)))
        return
    print_machine(options)
    for name in options.models:
        with tempfile.TemporaryDirectory() as folder:
            compare(name, prepared(name, Path(folder)), options)


def compare(name: str, folder: Path, options: argparse.Namespace) -> None:
    """Print a table of one model."""
    found: dict[tuple[str, bool], list[dict[str, Any]]] = defaultdict(list)
    rates, reads = [], []
    for _ in range(options.rounds):
        rates.append(bandwidth(options.threads))
        reads.append(seconds_to_read(folder))
        for case in options.cases:
            if not can_run(case, folder):
                continue
            for busy in (False, True) if options.busy else (False,):
                with neighbour() if busy else nullcontext():
                    found[case, busy] += run_case(case, folder, options)
    rate, read = statistics.median(rates), statistics.median(reads)
    print(f"{name}: {parameters(folder) / 1e6:.0f}M parameters; {options.threads} threads read {rate / 1e9:.1f} GB/s\n")
    names = ["engine", "tokens/s", "CPU tokens/s", "first token, ms", "load, s", "memory, MiB", "of bandwidth"]
    names += ["busy, tokens/s"] * options.busy
    print(f"| {' | '.join(names)} |\n|{'---|' * len(names)}")
    for case in dict.fromkeys(case for (case, _), results in found.items() if results):
        speed, cpu, first, load, memory = (column(found[case, False], key) for key in KEYS)
        # Theta keeps the starter's weights, which are in bfloat16, in 16 bits.
        bytes_each = 2 if (case, name) == ("Theta float32", "starter") else WEIGHT_BYTES[case.split()[-1]]
        share = parameters(folder) * bytes_each * speed / rate
        cells = [case, f"{speed:,.0f}", f"{cpu:,.0f}", f"{1e3 * first:,.0f}", f"{load:.2f} ({load / read:.1f}x)"]
        cells += [f"{memory:,.0f}", f"{share:.0%}"]
        if options.busy:
            cells.append(f"{column(found[case, True], 'tokens_per_second'):,.0f}")
        print(f"| {' | '.join(cells)} |", flush=True)
    print()


def can_run(case: str, folder: Path) -> bool:
    """Whether an engine is installed and its weights could be written."""
    written = (folder / "model-q8_0.gguf").exists() or not case.startswith("llama")
    return written and find_spec(CASES[case][1]) is not None


KEYS = ("tokens_per_second", "tokens_per_cpu_second", "first", "load", "memory")


def column(results: list[dict[str, Any]], key: str) -> float:
    """Return the median of a figure over all replies of all rounds."""
    return statistics.median(value for result in results for value in result[key])


def run_case(case: str, folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Run a case in a process of its own, and return what it prints; nothing if it fails."""
    passed = [f"--{name}={getattr(options, name)}" for name in ("replies", "tokens", "prompt", "threads")]
    command = [sys.executable, "-W", "ignore", __file__, f"--case={case}", f"--folder={folder}", *passed]
    environment = os.environ | {"OMP_NUM_THREADS": str(options.threads)}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    if done.returncode:
        print(f"{case}: {done.stderr.splitlines()[-1]}", file=sys.stderr)
        return []
    return [json.loads(done.stdout.splitlines()[-1])]


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of a case, a list of each: one for each reply."""
    open_ = CASES[options.case][0]
    open_(options.folder, options.threads)  # imports what it needs
    begin = time.perf_counter()
    write = open_(options.folder, options.threads)
    results: dict[str, Any] = defaultdict(list, load=[time.perf_counter() - begin])
    time.sleep(SECONDS_TO_SETTLE)
    rng = np.random.default_rng()
    for reply in range(options.replies + 1):
        prompt = rng.integers(0, 50_000, options.prompt).tolist()
        begin = time.perf_counter()
        times = list(write(prompt, options.tokens if reply else WARM_UP_TOKENS))
        if reply:
            (first, first_used), (last, last_used) = times[0], times[-1]
            results["first"].append(first - begin)
            results["tokens_per_second"].append((len(times) - 1) / (last - first))
            results["tokens_per_cpu_second"].append((len(times) - 1) / (last_used - first_used))
    results["memory"].append(peak_memory())
    return results


def now() -> Times:
    return time.perf_counter(), time.process_time()


def peak_memory() -> float:
    """Return the most memory that this process had, in MiB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def theta(folder: Path, dtype: str) -> Stream:
    """Theta's engine, which is the one of `ThetaModel`."""
    from theta.generate import writers
    from theta.generate.engine import Engine
    from theta.generate.settings import GenerationSettings

    engine = Engine(writers.of_folder(folder, lambda _: [], "cpu", dtype), end_id=-1)

    def write(prompt: list[int], tokens: int) -> Iterator[Times]:
        engine.join(prompt, GenerationSettings(max_length=tokens))
        for _ in range(tokens):
            engine.step()
            yield now()

    return write


def transformers(folder: Path, threads: int, dtype: str) -> Stream:
    """transformers' generate, with a streamer that notes the time of each token."""
    import torch
    from transformers import AutoModelForCausalLM

    from theta.generate.settings import GenerationSettings

    torch.set_num_threads(threads)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()

    def write(prompt: list[int], tokens: int) -> Iterator[Times]:
        ids, noted = torch.tensor([prompt]), Noted()
        values = GenerationSettings().to_generation_config() | {"max_new_tokens": tokens, "min_new_tokens": tokens}
        with torch.inference_mode():
            model.generate(ids, attention_mask=torch.ones_like(ids), pad_token_id=0, streamer=noted, **values)
        yield from noted.replayed()

    return write


class Noted:
    """Notes the time and the processor time at each token; transformers gives it the prompt first."""

    def __init__(self) -> None:
        self.times: list[Times] = []

    def put(self, _: Any) -> None:
        """Note a token."""
        self.times.append(now())

    def end(self) -> None:
        """Do nothing at the end of a reply."""

    def replayed(self) -> Iterator[Times]:
        """Yield the times at each token of the reply."""
        yield from self.times[1:]


def ctranslate2(folder: Path, threads: int, compute: str) -> Stream:
    """CTranslate2 with weights converted from the same folder, in float32 and rounded when they are loaded."""
    from ctranslate2 import Generator

    generator = Generator(str(folder / "ctranslate2"), device="cpu", compute_type=compute, intra_threads=threads)
    names = json.loads((folder / "ctranslate2" / "vocabulary.json").read_text())

    def write(prompt: list[int], tokens: int) -> Iterator[Times]:
        times = []
        generator.generate_batch(
            [[names[id_] for id_ in prompt]], max_length=tokens, min_length=tokens, sampling_topk=50, sampling_topp=0.9,
            sampling_temperature=0.8, repetition_penalty=1.2, no_repeat_ngram_size=3, include_prompt_in_result=False,
            callback=lambda _: times.append(now()),
        )  # fmt: skip
        yield from times

    return write


def llama_cpp(folder: Path, threads: int) -> Stream:
    """llama.cpp, with weights in blocks of 8 bits."""
    from llama_cpp import Llama

    # Token by token, as its products of several tokens in 8 bits crashed on an Intel Xeon with AMX (0.3.36); the time
    # to the first token is therefore not what it can reach.
    file = str(folder / "model-q8_0.gguf")
    model = Llama(file, n_ctx=1024, n_batch=1, n_threads=threads, verbose=False)

    def write(prompt: list[int], tokens: int) -> Iterator[Times]:
        model.reset()
        replies = model.generate(prompt, top_k=50, top_p=0.9, temp=0.8, repeat_penalty=1.2)
        for _, _ in zip(range(tokens), replies, strict=False):
            yield now()

    return write


CASES: dict[str, tuple[Callable[[Path, int], Stream], str]] = {
    "Theta float32": (lambda folder, _: theta(folder, "float32"), "torch"),
    "Theta bfloat16": (lambda folder, _: theta(folder, "bfloat16"), "torch"),
    "Theta int8": (lambda folder, _: theta(folder, "int8"), "torch"),
    "transformers float32": (lambda folder, threads: transformers(folder, threads, "float32"), "transformers"),
    "transformers bfloat16": (lambda folder, threads: transformers(folder, threads, "bfloat16"), "transformers"),
    "CTranslate2 float32": (lambda folder, threads: ctranslate2(folder, threads, "float32"), "ctranslate2"),
    "CTranslate2 int8": (lambda folder, threads: ctranslate2(folder, threads, "int8"), "ctranslate2"),
    "llama.cpp q8_0": (llama_cpp, "llama_cpp"),
}
"""How to open each case's model, and the package that it needs."""


def prepared(name: str, folder: Path) -> Path:
    """Write the model in all formats that the installed engines read."""
    from theta.bases.presets import GPT2
    from theta.generate.settings import GenerationSettings
    from theta.model import network
    from theta.tokens.vocabulary import GPT2_FOLDER, Vocabulary

    vocabulary = Vocabulary.from_base(GPT2_FOLDER)
    source = folder / "model"
    if name == "starter":
        model = network.load(ROOT / "models" / "starter")
    else:
        model = network.new(GPT2[name].layers, GPT2[name].heads, GPT2[name].width, seed=0)
        network.resize(model, vocabulary.size)
    network.trim(model, vocabulary.size)
    network.save(model, source)
    vocabulary.save(folder / "tokenizer", 1024)
    shutil.copytree(folder / "tokenizer", source, dirs_exist_ok=True)
    if name == "starter":  # its weights are in bfloat16
        shutil.copy(ROOT / "models" / "starter" / "model.safetensors", source)
    if find_spec("ctranslate2"):
        from ctranslate2.converters import TransformersConverter

        TransformersConverter(str(source)).convert(str(source / "ctranslate2"))
    if find_spec("llama_cpp") and find_spec("theta.export.gguf"):
        from theta.export import gguf

        gguf.write(source / "gguf", model, vocabulary, GenerationSettings())
        (source / "gguf" / "model-q8_0.gguf").rename(source / "model-q8_0.gguf")
    return source


def parameters(folder: Path) -> int:
    """Return the number of weights that a token needs."""
    config = json.loads((folder / "config.json").read_text())
    layers, width = config["n_layer"], config["n_embd"]
    return layers * 12 * width**2 + config["vocab_size"] * width


def bandwidth(threads: int) -> float:
    """Return the bytes that some threads read in a second from memory, as a sum of 512 MB does."""
    import torch

    torch.set_num_threads(threads)
    numbers = torch.zeros(2**27)
    seconds = []
    for _ in range(5):
        begin = time.perf_counter()
        numbers.sum()
        seconds.append(time.perf_counter() - begin)
    return numbers.nbytes / statistics.median(seconds)


def seconds_to_read(folder: Path) -> float:
    """Return the seconds in which the weights' bytes are read from the file, which the system has in memory."""
    begin = time.perf_counter()
    (folder / "model.safetensors").read_bytes()
    return time.perf_counter() - begin


def print_machine(options: argparse.Namespace) -> None:
    """Print what is measured on what, and how busy it is."""
    import torch

    lines = Path("/proc/cpuinfo").read_text().splitlines()
    processor = next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.processor())
    print(f"{processor}, {options.threads} threads, load {os.getloadavg()[0]:.1f}; torch {torch.__version__}\n")


if __name__ == "__main__":
    main()
