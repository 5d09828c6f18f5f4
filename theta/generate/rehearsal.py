"""The texts that a base writes for its own rehearsal.

Samples of a language model replay as well as the data that it was trained on: mixed into fine-tuning, they nearly stop
it from forgetting (Marek et al. 2026, arXiv 2605.26097). A base that answers questions writes texts too: they keep more
of what it knows than its replies to questions (docs/decisions.md), and it never learned to write a question.
"""

from collections.abc import Callable, Iterator
from time import monotonic
from typing import TYPE_CHECKING

from theta.generate import writers
from theta.generate.engine import Engine, Request, SharedEngine
from theta.generate.settings import GenerationSettings
from theta.tokens.vocabulary import END_OF_TEXT, Vocabulary

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

TOKENS = 200_000
"""A run of twelve epochs over the shipped conversations rehearses 180,000 tokens, each once."""

SECONDS = 600.0
"""Slow machines write fewer tokens than `TOKENS`; those then recur in training."""

ROWS, CACHE_BYTES = 64, 2 << 30
"""Texts that are written side by side, if their keys and values fit into so much memory."""

SAMPLING = GenerationSettings(
    max_length=256, temperature=1.0, top_p=1.0, top_k=100, repetition_penalty=1.0, no_repeat_ngram_size=0
)
"""Close to the model's own distribution, of which rehearsal is a sample."""


def texts(
    model: "GPT2LMHeadModel", vocabulary: Vocabulary, progress: Callable[[float], None], tokens: int = TOKENS
) -> Iterator[str]:
    """Yield texts of at most `SAMPLING.max_length` tokens, until there are `tokens`, or `SECONDS` are over.

    Args:
        model: on its device and in its number format, resized for the vocabulary.
        vocabulary: of the base, with Theta's special tokens.
        progress: is told which fraction is done.
    """
    begin_of_text = vocabulary.tokenizer.token_to_id(END_OF_TEXT)
    end = vocabulary.end_id if begin_of_text is None else begin_of_text
    engine = _engine(model, vocabulary, end)
    # Enough of them, even if each is as short as a sentence.
    requests = [Request([end], SAMPLING, seed) for seed in range(tokens // 16 + 1)]
    begin, unfinished = monotonic(), dict[int, list[int]]()
    for written, (number, token) in enumerate(engine.write(requests, _rows(model)), start=1):
        unfinished.setdefault(number, []).append(token.id)
        if token.last:
            yield from _text(vocabulary, unfinished.pop(number), end)
        done = max(written / tokens, (monotonic() - begin) / SECONDS)
        progress(min(done, 1.0))
        if done >= 1:
            break
    for ids in unfinished.values():
        yield from _text(vocabulary, ids, end)


def _rows(model: "GPT2LMHeadModel") -> int:
    config = model.config
    row_bytes: int = 2 * config.n_layer * config.n_embd * config.n_positions * model.dtype.itemsize
    return max(1, min(ROWS, CACHE_BYTES // row_bytes))


def _engine(model: "GPT2LMHeadModel", vocabulary: Vocabulary, end: int) -> SharedEngine:
    """Return an engine that writes no special token but `end`."""
    special = {*vocabulary.special_ids.values(), vocabulary.tokenizer.token_to_id(END_OF_TEXT)} - {end, None}
    writer = writers.of_model(model, lambda rows: sorted({*special, *range(vocabulary.size, rows)}))
    return SharedEngine(Engine(writer, end))


def _text(vocabulary: Vocabulary, ids: list[int], end: int) -> Iterator[str]:
    """Yield the text of some ids, if there is any; one that was cut may end within a character."""
    kept = [id_ for id_ in ids if id_ != end]
    text: str = vocabulary.tokenizer.decode(kept, skip_special_tokens=False)
    if text := text.rstrip("\ufffd").strip():
        yield text
