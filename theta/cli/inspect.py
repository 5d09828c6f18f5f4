"""`theta inspect`: what prepare would make of some data, before anything is trained on it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from theta.text import counted, visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from theta.corpus.report import Facts, FileFacts
    from theta.tokens.vocabulary import Vocabulary

FILES_SHOWN = 40
MEASURED_BYTES = 20 << 20
"""Lengths are measured on as much of the kept conversations."""
CHARACTERS_SHOWN = 2000


def inspect(
    path: Annotated[Path, typer.Argument(help="File or folder of conversations.")],
    params: Annotated[Path, typer.Option(help="File with the settings.")] = Path("params.yaml"),
    base_tokenizer: Annotated[Path, typer.Option(help="What fetch wrote about the base's tokenizer.")] = Path(
        "models/base/tokenizer.json"
    ),
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with code 1 for rejected items and warnings, too.")
    ] = False,
) -> None:
    """Show how each file would be read, what would be dropped, and how a conversation would be learned.

    The exit code is 1 if a file cannot be read or nothing can be used.
    """
    import tempfile

    from theta.cli.console import console, say
    from theta.corpus.build import UnusableCorpusError, build
    from theta.corpus.readers.finding import find
    from theta.corpus.report import summary
    from theta.corpus.settings import DataSettings
    from theta.files import native
    from theta.machine.process import available_cores
    from theta.settings import load
    from theta.tokens.settings import TokenizerSettings

    settings = load(params, "data", DataSettings)
    max_length = load(params, "tokenizer", TokenizerSettings).max_length
    found = find(native(str(path)), settings.include, settings.exclude)
    where = console()
    with tempfile.TemporaryDirectory(prefix="theta-inspect-") as name:
        folder = Path(name)
        try:
            facts = build(found, None, settings, folder, available_cores(), lambda _: None)
        except UnusableCorpusError as fault:
            _show_files(where, fault.files)
            _show_reasons(where, fault.rejects)
            raise
        _show_files(where, facts.files)
        say(where, summary(facts).capitalize() + ".\n")
        vocabulary = _vocabulary(base_tokenizer)
        _show_conversation(where, folder / "train.jsonl", vocabulary)
        _show_lengths(where, folder, vocabulary, max_length)
    said = _show_findings(where, facts)
    if facts.unreadable or (strict and (said or facts.reasons)):
        raise typer.Exit(1)


def _vocabulary(descriptor: Path) -> "Vocabulary":
    """The base's vocabulary, or GPT-2's if fetch has not described a base."""
    from theta.bases.descriptors import locate_tokenizer
    from theta.files import read_json
    from theta.tokens.vocabulary import GPT2_FOLDER, Vocabulary

    if not descriptor.is_file():
        return Vocabulary.from_base(GPT2_FOLDER)
    return Vocabulary.from_base(locate_tokenizer(read_json(descriptor, "kind")))


def _show_files(where: "Console", files: "Sequence[FileFacts]") -> None:
    from theta.cli.console import say, table

    shown = table("file", "holds", "items>", "kept>", "duplicates>", "rejected>", "mended>")
    for file in files[:FILES_SHOWN]:
        holds = ", ".join(shape for shape, _ in file.shapes.most_common(3))
        counts = (file.items, file.kept, file.duplicates, file.rejected, file.mended)
        shown.add_row(visible(file.name), visible(holds or "-"), *(f"{count:,}" for count in counts))
    where.print(shown)
    if len(files) > FILES_SHOWN:
        say(where, f"... and {counted(len(files) - FILES_SHOWN, 'more file')}")


def _show_conversation(where: "Console", train: Path, vocabulary: "Vocabulary") -> None:
    """Print the first conversation as it would be learned: the learned part in green, the tokens divided by "|"."""
    from rich.text import Text

    from theta.conversation.messages import Conversation
    from theta.conversation.template import render
    from theta.files import read_json_lines

    conversation = next(map(Conversation.from_json, read_json_lines(train)))
    spans = list(render(conversation.messages))
    text = Text(f"The first conversation, {visible(conversation.source)} (what is learned is green):\n")
    for span in spans:
        style = "green" if span.learned else "dim" if span.special else ""
        text.append(visible(span.text), style)
        text.append("\n" if span.text == "<|end|>" else "")
    where.print(text[:CHARACTERS_SHOWN], soft_wrap=True)
    ids, learned = vocabulary.encode(spans)
    tokens = Text(f"Its {len(ids)} tokens, of which {sum(learned)} are learned:\n")
    for place, (id_, is_learned) in enumerate(zip(ids, learned, strict=True)):
        tokens.append("|" if place else "", "dim")
        tokens.append(visible(_shown(vocabulary, id_)), "green" if is_learned else "")
    where.print(tokens[:CHARACTERS_SHOWN], "\n", soft_wrap=True)


def _shown(vocabulary: "Vocabulary", id_: int) -> str:
    return str(vocabulary.tokenizer.decode([id_], skip_special_tokens=False)).replace("\n", "\\n")


def _show_lengths(where: "Console", folder: Path, vocabulary: "Vocabulary", max_length: int) -> None:
    import numpy as np

    from theta.cli.console import say
    from theta.conversation.messages import Conversation
    from theta.conversation.template import render
    from theta.files import read_json_lines

    conversations: list[Any] = []
    for split in ("validation", "test", "train"):
        read = 0
        for row in read_json_lines(folder / f"{split}.jsonl"):
            conversations.append(list(render(Conversation.from_json(row).messages)))
            read += sum(len(span.text) for span in conversations[-1])
            if read > MEASURED_BYTES:
                break
    lengths = np.array([len(ids) for ids, _ in vocabulary.encode_many(conversations)])
    too_long = int((lengths > max_length).sum())
    words = (
        f"Tokens of a conversation: median {int(np.median(lengths))}, 95 % up to {int(np.percentile(lengths, 95))}, "
        f"the longest {int(lengths.max())}. "
    )
    if too_long:
        words += f"{too_long:,} of {len(lengths):,} are longer than tokenizer.max_length {max_length}, and are divided."
    else:
        words += f"None is longer than tokenizer.max_length {max_length}."
    say(where, words + "\n")


def _show_findings(where: "Console", facts: "Facts") -> list[str]:
    """Print what was rejected and mended, and the warnings; return the warnings."""
    from theta.cli.console import say
    from theta.corpus.report import warnings

    rejects = [(reason, count, facts.examples[reason]) for reason, count in facts.reasons.most_common()]
    _show_reasons(where, [*rejects, *facts.notes.of("mended")])
    said = list(warnings(facts))
    for line in said:
        say(where, f"- {line}")
    return said


def _show_reasons(where: "Console", rows: "Sequence[tuple[str, int, str]]") -> None:
    from theta.cli.console import table

    if not rows:
        return
    shown = table("rejected or mended", "items>", "first")
    for name, count, example in rows:
        shown.add_row(visible(name), f"{count:,}", visible(example))
    where.print(shown)
