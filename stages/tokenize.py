"""tokenize: Datasets/prepared -> Datasets/tokens/{train,validation,test,rehearsal}.arrow and tokenizer, its metrics."""

from pathlib import Path

import typer

from theta import files
from theta.bases.descriptors import locate_tokenizer
from theta.conversation.messages import Conversation
from theta.settings import load
from theta.tokens import store
from theta.tokens.encode import Encoding, documents
from theta.tokens.report import histogram, report
from theta.tokens.settings import TokenizerSettings
from theta.tokens.vocabulary import Vocabulary


def tokenize(
    prepared: Path = Path("Datasets/prepared"),
    base_tokenizer: Path = Path("models/base/tokenizer.json"),
    tokens: Path = Path("Datasets/tokens"),
    lengths: Path = Path("metrics/plots/lengths.csv"),
    metrics: Path = Path("metrics/tokenize.json"),
    params: Path = Path("params.yaml"),
) -> None:
    """Render and encode each conversation, and label the learned tokens."""
    settings = load(params, "tokenizer", TokenizerSettings)
    descriptor = files.read_json(base_tokenizer, "kind", "positions")
    vocabulary = Vocabulary.from_base(locate_tokenizer(descriptor))
    vocabulary.save(tokens / "tokenizer", descriptor["positions"])
    counts = {}
    for split in ("train", "validation", "test", "rehearsal"):
        counts[split] = Encoding()
        conversations = files.read_json_lines(prepared / f"{split}.jsonl", Conversation.from_json)
        encoded = documents(conversations, vocabulary, settings.max_length, counts[split])
        store.write(tokens / f"{split}.arrow", encoded)
    rehearsed = sum(counts.pop("rehearsal").lengths.values())  # the metrics are about the user's data only
    files.write_json(metrics, {split: report(count, settings.max_length) for split, count in counts.items()})
    files.write_text(lengths, histogram(counts.values()))
    total = sum(counts["train"].lengths.values())
    also = f", and {rehearsed:,} for rehearsal" if rehearsed else ""
    typer.echo(f"encoded {total:,} training documents with {vocabulary.size:,} token ids{also}")
