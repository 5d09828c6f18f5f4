"""Generation: Theta against transformers and CTranslate2, with the same weights and parameters, in one run.

    python benchmarks/generate.py                     # the device that is there; gpt2's shape, on a GPU all four shapes
    python benchmarks/generate.py --shapes gpt2 --rows 1 256 --tokens 200

Weights are random, since they do not change the speed. Each engine writes replies of exactly `--tokens` tokens to
prompts of `--prompt` tokens, with all six parameters active where the engine has them (Theta's defaults; CTranslate2
has no n-gram rule on the reply alone). It prints tokens per second with the first token and after it, the time to the
first token, the peak memory, and the share of the memory's bandwidth that batch 1 uses: bytes of the weights times
tokens per second, divided by the bandwidth of a large copy.
"""

import argparse
import math
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import GPT2LMHeadModel

from theta.bases.presets import GPT2, PRESETS, Preset
from theta.generate import writers
from theta.generate.engine import Engine, Request, SharedEngine
from theta.generate.settings import GenerationSettings
from theta.machine.cpu_sharing import share_cpus
from theta.model import network

Stream = Callable[[list[list[int]], int], Iterator[int]]
"""Writes a reply of the given number of tokens to each prompt; yields how many tokens came at once."""

NEVER_ENDS = -1
SHAPES = {**GPT2, "starter": PRESETS["starter"]}


def theta(model: GPT2LMHeadModel) -> Stream:
    """Theta's engine, which is the one of `ThetaModel`."""
    shared = SharedEngine(Engine(writers.of_model(model, lambda _: []), NEVER_ENDS))

    def write(prompts: list[list[int]], tokens: int) -> Iterator[int]:
        settings = GenerationSettings(max_length=tokens)
        requests = [Request(prompt, settings, seed) for seed, prompt in enumerate(prompts)]
        for _ in shared.write(requests, len(requests)):
            yield 1

    return write


def transformers(model: GPT2LMHeadModel, **options: Any) -> Stream:
    """transformers' generate, which returns all tokens at once."""

    def write(prompts: list[list[int]], tokens: int) -> Iterator[int]:
        ids = torch.tensor(prompts, device=model.device)
        values = GenerationSettings().to_generation_config() | {"max_new_tokens": tokens, "min_new_tokens": tokens}
        with torch.inference_mode():
            model.generate(ids, attention_mask=torch.ones_like(ids), pad_token_id=0, **values, **options)
        yield len(prompts) * tokens

    return write


def ctranslate2(model: GPT2LMHeadModel, compute: str) -> Stream:
    """CTranslate2 with weights converted from the same model."""
    from ctranslate2 import Generator
    from ctranslate2.converters import TransformersConverter  # type: ignore[import-untyped]

    from theta.tokens.vocabulary import GPT2_FOLDER, Vocabulary

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "hf"), Path(folder, "ct2")
        vocabulary = Vocabulary.from_base(GPT2_FOLDER)
        network.resize(model, vocabulary.size)
        network.trim(model, vocabulary.size)
        network.save(model, source)
        vocabulary.save(source, 1024)
        TransformersConverter(str(source)).convert(str(target), quantization=compute)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        generator = Generator(str(target), device=device, compute_type=compute)
        names = [vocabulary.tokenizer.id_to_token(id_) for id_ in range(vocabulary.size)]

    def write(prompts: list[list[int]], tokens: int) -> Iterator[int]:
        generator.generate_batch(
            [[names[id_] for id_ in prompt] for prompt in prompts], max_length=tokens, min_length=tokens,
            sampling_topk=50, sampling_topp=0.9, sampling_temperature=0.8, repetition_penalty=1.2,
            no_repeat_ngram_size=3, include_prompt_in_result=False,
        )  # fmt: skip
        yield len(prompts) * tokens

    return write


def measure(write: Stream, prompts: list[list[int]], tokens: int, repeats: int) -> tuple[float, float, float]:
    """Return medians of tokens per second with and without the first token, and of the seconds to the first."""
    sum(write(prompts, tokens))
    results = []
    for _ in range(repeats):
        begin = time.perf_counter()
        arrivals = [(time.perf_counter(), count) for count in write(prompts, tokens)]
        synchronize()
        total = sum(count for _, count in arrivals)
        first, last = arrivals[0][0], arrivals[-1][0]
        if len(arrivals) > 1:
            results.append((total / (last - begin), (total - arrivals[0][1]) / (last - first), first - begin))
        else:  # all tokens came at once
            results.append((total / (last - begin), math.nan, math.nan))
    rate, after, first = (statistics.median(column) for column in zip(*results, strict=True))
    return rate, after, first


def bandwidth(device: torch.device) -> float:
    """Return the bytes per second of a large copy, read and written."""
    size = 2**31 if device.type == "cuda" else 2**28
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    seconds = []
    for _ in range(7):
        synchronize()
        begin = time.perf_counter()
        target.copy_(source)
        synchronize()
        seconds.append(time.perf_counter() - begin)
    return 2 * size / statistics.median(seconds)


def synchronize() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def engines(model: GPT2LMHeadModel, on_gpu: bool) -> dict[str, Callable[[], Stream]]:
    """Return the engines to compare, by their names."""
    dtype = str(model.dtype).removeprefix("torch.")
    found: dict[str, Callable[[], Stream]] = {
        f"Theta {dtype}": lambda: theta(model),
        f"transformers {dtype}": lambda: transformers(model),
    }
    if on_gpu:
        static = {"cache_implementation": "static"}
        found[f"transformers {dtype}, static cache, compiled"] = lambda: transformers(model, **static)
    compute = "bfloat16" if on_gpu else "int8"
    found[f"CTranslate2 {compute}"] = lambda: ctranslate2(model.float().cpu(), compute)
    return found


def main() -> None:
    """Print a Markdown table for each shape."""
    on_gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=list(GPT2) if on_gpu else ["gpt2"])
    parser.add_argument("--rows", nargs="+", type=int, default=[1, 256] if on_gpu else [1, 8])
    parser.add_argument("--tokens", type=int, default=256 if on_gpu else 64)
    parser.add_argument("--prompt", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default="", help="engines whose name contains this")
    options = parser.parse_args()
    device = torch.device("cuda" if on_gpu else "cpu")
    share_cpus()
    rate = bandwidth(device)
    name = torch.cuda.get_device_name() if on_gpu else f"{platform.processor()}, {torch.get_num_threads()} threads"
    print(f"{name}; torch {torch.__version__}; a copy moves {rate / 1e9:,.0f} GB/s\n")
    print("| shape | engine | rows | tokens/s | after the first | first token | peak memory | of the bandwidth |")
    print("|---|---|---|---|---|---|---|---|")
    for shape in options.shapes:
        size = SHAPES[shape]
        for engine in engines(new(size, device), on_gpu):
            if options.only in engine:
                report(shape, engine, size, device, options, rate)


def new(size: Preset, device: torch.device) -> GPT2LMHeadModel:
    """Return a model with random weights in bfloat16."""
    with device:
        model = network.new(size.layers, size.heads, size.width, seed=0)
    return model.to(device, torch.bfloat16).eval()


def report(
    shape: str, engine: str, size: Preset, device: torch.device, options: argparse.Namespace, rate: float
) -> None:
    """Print a line for each number of rows; what cannot run says why."""
    on_gpu = device.type == "cuda"
    model = new(size, device)
    weight_bytes = sum(weight.nbytes for weight in model.parameters())
    try:
        write = engines(model, on_gpu)[engine]()
        for rows in options.rows:
            generator = torch.Generator().manual_seed(rows)
            prompts = torch.randint(0, 50_000, (rows, options.prompt), generator=generator).tolist()
            if on_gpu:
                torch.cuda.reset_peak_memory_stats()
            tokens, after, first = measure(write, prompts, options.tokens, options.repeats)
            peak = f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB" if on_gpu else "–"
            share = f"{weight_bytes * tokens / rate:.0%}" if rows == 1 else "–"
            figures = f"{tokens:,.0f} | {after:,.0f} | {1e3 * first:.1f} ms | {peak} | {share}"
            print(f"| {shape} | {engine} | {rows} | {figures} |", flush=True)
    except Exception as fault:
        print(f"| {shape} | {engine} | – | {type(fault).__name__}: {str(fault).splitlines()[0][:60]} | | | | |")


if __name__ == "__main__":
    main()
