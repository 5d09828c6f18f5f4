"""evaluate: models/checkpoint and the test split -> metrics/{evaluate.json,replies.yaml,plots,images}."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from theta import files
from theta.conversation.messages import Conversation
from theta.errors import DataError
from theta.evaluate.settings import EvaluateSettings
from theta.generate.settings import GenerationSettings
from theta.machine.mkl import fix_order_of_sums
from theta.machine.settings import MachineSettings
from theta.settings import load
from theta.text import counted

if TYPE_CHECKING:
    from theta.evaluate.replies import Answered
    from theta.generate.assistant import ThetaModel
    from theta.tokens.store import Store
    from theta.tokens.vocabulary import Vocabulary

TOKENS_PER_MICROBATCH = 4096
"""Tokens of one forward pass if machine.tokens_per_microbatch is auto."""


def evaluate(
    checkpoint: Path = Path("models/checkpoint"),
    test: Path = Path("Datasets/tokens/test.arrow"),
    conversations: Path = Path("Datasets/prepared/test.jsonl"),
    trained: Path = Path("Datasets/prepared/train.jsonl"),
    new_wordings: Path = Path("Datasets/prepared/new_wordings.jsonl"),
    tokenizer: Path = Path("Datasets/tokens/tokenizer"),
    base_weights: Path = Path("models/base/weights.json"),
    train_curve: Path = Path("metrics/curves/plots/metrics/train/loss.tsv"),
    validation_curve: Path = Path("metrics/curves/plots/metrics/validation/loss.tsv"),
    lengths: Path = Path("metrics/plots/lengths.csv"),
    metrics: Path = Path("metrics/evaluate.json"),
    replies: Path = Path("metrics/replies.yaml"),
    domains: Path = Path("metrics/plots/domains.csv"),
    images: Path = Path("metrics/images"),
    params: Path = Path("params.yaml"),
) -> None:
    """Measure the model and its base before fine-tuning on the test split."""
    fix_order_of_sums()  # before torch is imported
    settings = load(params, "evaluate", EvaluateSettings)
    generation = load(params, "generation", GenerationSettings)
    machine = load(params, "machine", MachineSettings)
    if not checkpoint.is_dir():
        raise DataError(f"{checkpoint} does not exist; run `dvc repro train` to create it.")
    from theta.evaluate import plots, report
    from theta.evaluate.replies_page import page
    from theta.tokens.store import Store
    from theta.tokens.vocabulary import Vocabulary

    store, vocabulary = Store.if_any(test), Vocabulary.load(tokenizer)
    if store:
        typer.echo(f"measuring {counted(len(store), 'test document')} under the base and the fine-tuned model")
    asked = {"test": conversations, "trained": trained, "new wording": new_wordings}
    results, answers = _measure(checkpoint, base_weights, store, asked, vocabulary, settings, generation, machine)
    files.write_text(replies, page(answers))
    report.write_domains(domains, results["domains"])
    if results.get("answers"):
        plots.answer_bars(results["answers"]).save(images / "answers.svg")
    train_points, validation_points = (plots.curve(each, ("step", "loss")) for each in (train_curve, validation_curve))
    plots.loss_curves(train_points, validation_points).save(images / "loss.svg")
    plots.domain_bars(results["domains"]).save(images / "domains.svg")
    plots.length_histogram(plots.curve(lengths, ("tokens", "documents"), delimiter=",")).save(images / "lengths.svg")
    files.write_json(metrics, results)
    typer.echo(report.summary(results))


def _measure(
    checkpoint: Path,
    base_weights: Path,
    store: "Store | None",
    asked: Mapping[str, Path],
    vocabulary: "Vocabulary",
    settings: EvaluateSettings,
    generation: GenerationSettings,
    machine: MachineSettings,
) -> tuple[dict[str, Any], list["Answered"]]:
    """Return the content of metrics/evaluate.json, and the replies."""
    from theta.evaluate import report
    from theta.evaluate.likelihood import measure
    from theta.evaluate.replies import figures
    from theta.generate.assistant import ThetaModel
    from theta.machine.cpu_sharing import share_cpus
    from theta.machine.devices import choose_device, memory_remedy
    from theta.machine.process import set_threads
    from theta.model import network

    set_threads(machine.threads)
    share_cpus()
    device = choose_device(machine.device)
    tokens = TOKENS_PER_MICROBATCH if machine.tokens_per_microbatch == "auto" else machine.tokens_per_microbatch
    # One model after the other, because two of gpt2-xl in float32 need 13 GB.
    with memory_remedy(
        device,
        f"lower machine.tokens_per_microbatch ({machine.tokens_per_microbatch}) or evaluate.prompts_per_batch "
        f"({settings.prompts_per_batch}), or set machine.device to cpu",
    ):
        before = after = None
        if store:
            base = network.from_base(files.read_json(base_weights), vocabulary.size)
            before = measure(base, store, vocabulary.size, tokens, device)
            del base
        model = network.load(checkpoint)
        if store:
            after = measure(model, store, vocabulary.size, tokens, device)
        assistant = ThetaModel.of(model, vocabulary, generation)
        replies = {kind: _replies(assistant, kind, path, settings) for kind, path in asked.items()}
    answers = _answers_given(replies["trained"], replies["new wording"], vocabulary, generation.no_repeat_ngram_size)
    likelihood = report.likelihood(store, after, before) if store and after and before else report.NOTHING_HELD_BACK
    results = report.rounded({"answers": answers, **likelihood, "replies": figures(replies["test"])})
    return results, [*replies["test"], *replies["new wording"], *replies["trained"]]


def _answers_given(
    trained: "list[Answered]", new_wordings: "list[Answered]", vocabulary: "Vocabulary", no_repeat_ngram_size: int
) -> dict[str, Any] | None:
    """Return the section `answers` of metrics/evaluate.json; None if nothing was asked."""
    from theta.evaluate.answers import figures, ruled_out

    answers = figures(trained, new_wordings)
    return answers and {**answers, "ruled_out": ruled_out(trained, vocabulary, no_repeat_ngram_size)}


def _replies(model: "ThetaModel", kind: str, path: Path, settings: EvaluateSettings) -> list["Answered"]:
    """Return the replies to the conversations of a file."""
    from theta.evaluate.answers import first_exchanges
    from theta.evaluate.replies import answer

    conversations = files.read_json_lines(path, Conversation.from_json)
    amount = settings.replies if kind == "test" else settings.answers
    chosen = conversations if kind == "test" else first_exchanges(conversations, amount)
    return answer(model, chosen, replies=amount, batch_size=settings.prompts_per_batch, seed=settings.seed, kind=kind)
