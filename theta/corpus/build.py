"""Files -> a corpus on disk: read the items, drop unusable ones, and divide the rest into splits.

    files ─ blocks ─ gather, in several processes ─ lines and rejects, on disk ─┐
                                                  ─ fingerprints ─ outcome ─────┴─ train, validation, test, rejected

Memory does not grow with the data, apart from some numbers for each conversation (about 25 bytes).
"""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np

from theta.corpus import leaks, mixing, outcome, splits
from theta.corpus.gather import ENGLISH, NOT_JUDGED, Task, gather
from theta.corpus.outcome import Outcome
from theta.corpus.pile import Pile
from theta.corpus.readers.blocks import Block
from theta.corpus.readers.finding import File, Found
from theta.corpus.readers.reading import read
from theta.corpus.report import Facts, FileFacts, RepeatedContent
from theta.corpus.settings import DataSettings
from theta.corpus.shapes.shape import is_message
from theta.corpus.splits import Division
from theta.corpus.wordings import MOST_REWORDINGS, WordingRules, Wordings, remove_asked, save_asked
from theta.errors import DataError
from theta.files import flushing
from theta.parallel import ordered_map
from theta.text import counted

EXACT_TWINS_BYTES = 32 << 20
"""Up to as many bytes of files, near twins are compared exactly; their questions are then kept in memory."""

BYTES_FOR_PROCESSES = 16 << 20
"""With less to read, starting other processes takes longer than they save."""

REWORDINGS_FOR_PROCESSES = 40_000
"""Fewer are made in less time than other processes take to start."""


class UnusableCorpusError(DataError):
    """Too few conversations were kept; `rejected.jsonl` gives the reasons.

    Attributes:
        files: what each file came to.
        rejects: reason, number and first item of the rejects.
    """

    def __init__(self, message: str, files: Sequence[FileFacts], rejects: Sequence[tuple[str, int, str]]) -> None:
        super().__init__(message)
        self.files, self.rejects = files, rejects


def build(
    found: Found,
    rehearsal: File | None,
    settings: DataSettings,
    folder: Path,
    processes: int,
    progress: Callable[[float], None],
) -> Facts:
    """Read, clean and divide conversations, and write the files of `Datasets/prepared` into `folder`.

    Args:
        found: the files to read, and those that are passed over.
        rehearsal: the base's own conversations; those that ask what the data asks are left out.
        settings: the section `data` of params.yaml.
        folder: an empty folder. Until the end it also holds what is too large for the memory.
        processes: number of processes that read blocks; the result does not depend on it.
        progress: is told about which fraction of the data was read, after each block.

    Raises:
        DataError: a file cannot be read, and `data.strict` is set.
        UnusableCorpusError: no conversation was kept, or too few for three splits; `rejected.jsonl` is written.
    """
    input_bytes = sum(each.path.stat().st_size for each in found.files)
    exact_twins = input_bytes <= EXACT_TWINS_BYTES
    files = [*found.files, *([rehearsal] if rehearsal else [])]
    facts = [FileFacts(file.name) for file in files]
    read_from = deque[int]()
    bytes_made = 0
    with closing(Pile(folder, exact_twins=exact_twins)) as pile:
        tasks = (
            Task(block, settings.rules, settings.redact, exact_twins, _likely_rewordings(settings, pile) > 0)
            for block in _blocks(files, facts, read_from, strict=settings.strict)
        )
        for made in ordered_map(gather, tasks, processes if input_bytes > BYTES_FOR_PROCESSES else 1):
            file = read_from.popleft()
            pile.add(made, file, is_data=file < len(found.files))
            facts[file].add(made)
            bytes_made += len(made.lines) + len(made.rejects)
            progress(min(bytes_made / max(input_bytes, 1), 1.0))
        pile.finish()
        return _divide(found, facts[: len(found.files)], pile, settings, processes)


def _likely_rewordings(settings: DataSettings, pile: Pile) -> int:
    """How many rewordings each conversation gets if no more are read and most of them are learned."""
    return min(settings.rewordings, MOST_REWORDINGS // max(len(pile.conversations), 1))


def _blocks(
    files: Sequence[File], facts: Sequence[FileFacts], read_from: deque[int], *, strict: bool
) -> Iterator[Block]:
    """Yield the blocks of all files, and note which file each is from and which files have a fault."""
    for number, (file, fact) in enumerate(zip(files, facts, strict=True)):
        try:
            for block in read(file, is_message):
                read_from.append(number)
                yield block
        except DataError as fault:
            if strict:
                raise
            fact.fault = str(fault)


def _divide(found: Found, files: Sequence[FileFacts], pile: Pile, settings: DataSettings, processes: int) -> Facts:
    """Decide what becomes of each conversation, and write the files."""
    evidence, is_data = pile.evidence, np.zeros(len(pile.conversations), np.bool_)
    is_data[: pile.of_data] = True
    duplicate_of = evidence.duplicate_of(is_data)
    unique = is_data & (duplicate_of < 0)
    members = mixing.within_caps(pile.conversations, unique, _meant(settings.caps, pile, files))
    if unique.any() and not members.any():
        raise _refused(pile, files, duplicate_of, "data.caps leaves no conversation; raise a cap, or remove it.")
    fractions = settings.validation_fraction, settings.test_fraction
    try:
        division = splits.divide(pile.conversations, evidence.ties(members), members, *fractions)
    except DataError as fault:
        raise _refused(pile, files, duplicate_of, _unusable(pile, fault, int(members.sum()))) from None
    repeats = mixing.repeats(pile.conversations, _meant(settings.weights, pile, files))
    if not repeats[division.split == splits.TRAIN].any():
        message = "data.weights leaves no conversation in train; raise a weight, or remove it."
        raise _refused(pile, files, duplicate_of, message)
    output = division.split.copy()
    output[outcome.rehearsed(evidence, members, is_data, division.split)] = outcome.REHEARSAL
    decided = Outcome(output, duplicate_of, np.where(output == splits.TRAIN, repeats, 1))
    rules = WordingRules(
        settings.new_wordings_fraction,
        min(settings.rewordings, MOST_REWORDINGS // max(int((output == splits.TRAIN).sum()), 1)),
        settings.reword_any_language,
        pile.folder / "asked",
    )
    save_asked(rules.asked, evidence.asked(members))
    reworded = rules.rewordings * sum(
        int(np.isin(rows["language"][output[part] == splits.TRAIN], (ENGLISH, NOT_JUDGED)).sum())
        for part, rows in pile.conversations.chunks()
    )
    with flushing(pile.folder / f"{splits.SPLITS[splits.TRAIN]}.jsonl"):
        wordings = outcome.write(pile, decided, rules, processes if reworded > REWORDINGS_FOR_PROCESSES else 1)
        facts = _facts(found, files, pile, decided, division, int((unique & ~members).sum()), wordings)
    remove_asked(rules.asked)
    pile.remove_files()
    unknown = mixing.without_meaning(
        {**settings.caps, **settings.weights}, [*pile.domain_names, *(f.name for f in files)]
    )
    return replace(facts, unknown_patterns=unknown, idle_patterns=found.idle)


def _facts(
    found: Found,
    files: Sequence[FileFacts],
    pile: Pile,
    decided: Outcome,
    division: Division,
    over_cap: int,
    wordings: Wordings,
) -> Facts:
    """Count what became of the conversations."""
    kept = division.split >= 0
    by_file, repeating = np.zeros((2, len(files) + 1), np.int64)
    domains = np.zeros(len(pile.domain_names), np.int64)
    messages = texts = chats = 0
    for part, rows in pile.conversations.chunks():
        repeating += np.bincount(rows["file"][decided.duplicate_of[part] >= 0], minlength=len(repeating))
        of_kept = rows[kept[part]]
        by_file += np.bincount(of_kept["file"], minlength=len(by_file))
        domains += np.bincount(of_kept["domain"], minlength=len(domains))
        messages += int(of_kept["messages"].sum())
        texts += int((of_kept["replies"] == 0).sum())
        chats += int((of_kept["replies"] > 1).sum())
    for place, file in enumerate(files):
        file.kept, file.duplicates = int(by_file[place]), int(repeating[place])
    return Facts(
        files=files,
        passed_over=found.passed_over,
        notes=pile.notes,
        reasons=pile.reasons,
        examples=pile.examples,
        duplicates=int((decided.duplicate_of >= 0).sum()),
        over_cap=over_cap,
        conversations={
            name: int(decided.repeats[division.split == place].sum()) for place, name in enumerate(splits.SPLITS)
        },
        rehearsal=int((decided.output == outcome.REHEARSAL).sum()),
        domains=Counter({name: int(domains[place]) for name, place in pile.domain_names.items() if domains[place]}),
        messages=messages,
        texts=texts,
        chats=chats,
        reply_words=_reply_words(pile, kept),
        groups=division.groups,
        largest_group=division.largest_group,
        loosened=division.loosened.words,
        shares=division.shares,
        leaks=leaks.leaks(pile.evidence, division.split),
        repeated=_shown(pile, leaks.repeated(pile.evidence, kept)),
        wordings=wordings,
    )


def _reply_words(pile: Pile, kept: np.ndarray) -> np.ndarray:
    """How many replies of the kept conversations have each number of words, int64 [largest number + 1]."""
    total = np.zeros(0, np.int64)
    for _, rows in pile.replies.chunks():
        counts = np.bincount(rows["words"][kept[rows["owner"]]], minlength=len(total))
        counts[: len(total)] += total
        total = counts
    return total


def _shown(pile: Pile, repeated: leaks.Repeated) -> RepeatedContent:
    """The examples as text."""
    conflicts = []
    for one, other in repeated.conflict_examples:
        first, second = pile.conversation(one), pile.conversation(other)
        conflicts.append((first.opening, first.source, second.source))
    fillers = [
        (next(m.content for m in made.messages if m.role == "assistant"), made.source, count)
        for made, count in ((pile.conversation(place), count) for place, count in repeated.filler_examples)
    ]
    return RepeatedContent(repeated.conflicts, conflicts, repeated.fillers, fillers)


def _refused(pile: Pile, files: Sequence[FileFacts], duplicate_of: np.ndarray, message: str) -> UnusableCorpusError:
    """Complete the rejects, which explain the error, and remove the other files."""
    outcome.write_duplicates(pile, duplicate_of)
    pile.remove_files()
    rejects = [(reason, count, pile.examples[reason]) for reason, count in pile.reasons.most_common()]
    return UnusableCorpusError(message, files, rejects)


def _unusable(pile: Pile, fault: DataError, count: int) -> str:
    """Why the corpus cannot be used."""
    if count or not pile.reasons:
        return f"data.path: {fault}" if count else "data.path: its files contain no conversations; add some."
    reason, most = pile.reasons.most_common(1)[0]
    return (
        f"data.path: none of {counted(pile.reasons.total(), 'item')} is a usable conversation, most often because "
        f"of {reason} ({most}), such as {pile.examples[reason]}."
    )


def _meant(amounts: Mapping[str, float], pile: Pile, files: Sequence[FileFacts]) -> list[mixing.Meant]:
    """What each pattern of data.caps or data.weights means."""
    names = [*(file.name for file in files), ""]  # the last one is the file of the base's own conversations
    return [mixing.Meant.of(pattern, amount, names, list(pile.domain_names)) for pattern, amount in amounts.items()]
