"""tokenize: Datasets/prepared -> Datasets/tokens/{train,validation,test,rehearsal}.arrow and tokenizer, its metrics.

Datasets/tokens/cut.jsonl lists every reply that was cut and every exchange that was dropped.
"""

from pathlib import Path

import typer

from stages.progress import fraction
from theta import files
from theta.bases.descriptors import locate_tokenizer
from theta.machine.process import available_cores
from theta.settings import load
from theta.text import counted
from theta.tokens.build import CUT, REHEARSAL, build
from theta.tokens.report import histogram, losses, report, together
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
    max_length = load(params, "tokenizer", TokenizerSettings).max_length
    descriptor = files.read_json(base_tokenizer, "kind", "positions")
    vocabulary, positions = Vocabulary.from_base(locate_tokenizer(descriptor)), descriptor["positions"]
    with files.replacing_folder(tokens) as folder, fraction("tokenizing") as progress:
        folder.mkdir()
        vocabulary.save(folder / "tokenizer", positions)
        counts = build(prepared, folder, max_length, positions, available_cores(), progress)
    rehearsed = counts.pop(REHEARSAL).lengths.total()  # the metrics are about the user's data only
    files.write_json(metrics, {split: report(count, max_length) for split, count in counts.items()})
    files.write_text(lengths, histogram(counts.values()))
    also = f", and {rehearsed:,} for rehearsal" if rehearsed else ""
    documents = counts["train"].lengths.total()
    typer.echo(f"encoded {counted(documents, 'training document')} with {vocabulary.size:,} token ids{also}")
    data = together(counts.values())
    for why in data.fallbacks:
        typer.echo(f"The slower tokenizer was used: {why}.")
    if data.needed:
        typer.echo(f"Warning: {losses(data, max_length, positions)}; see {(tokens / CUT).as_posix()}.")
    if data.wordings_left_out:
        typer.echo(
            f"Warning: {data.wordings_left_out:,} of {data.wordings + data.wordings_left_out:,} wordings are left out, "
            f"because their documents would be longer than tokenizer.max_length {max_length}; see "
            f"{(tokens / CUT).as_posix()}."
        )
