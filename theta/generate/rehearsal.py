"""What a base writes for its own rehearsal, in the shapes that prepare reads.

Samples of a language model replay as well as the data that it was trained on: mixed into fine-tuning, they nearly stop
it from forgetting (Marek et al. 2026, arXiv 2605.26097). A base that was trained to answer writes replies, to questions
that it is given, because it never learned to write a question. Any other base writes texts, from the token that begins
one.
"""

from collections.abc import Callable, Iterator, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

from theta.conversation.messages import Message
from theta.conversation.template import render_prompt
from theta.generate import writers
from theta.generate.engine import Engine, Request, SharedEngine
from theta.generate.settings import GenerationSettings
from theta.tokens.vocabulary import END_OF_TEXT, Vocabulary

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

TOKENS = 200_000
"""The shipped run, twelve epochs over 586 conversations, rehearses 192,000 tokens, each once."""

SECONDS = 600.0
"""Slow machines write fewer tokens than `TOKENS`; those then recur in training."""

ROWS = 64
"""Samples that are written side by side, if the engine takes as many."""

SAMPLING = GenerationSettings(
    max_length=256, temperature=1.0, top_p=1.0, top_k=100, repetition_penalty=1.0, no_repeat_ngram_size=0
)
"""Close to the model's own distribution, of which rehearsal is a sample."""

Progress = Callable[[float], None]


def answers_questions(vocabulary: Vocabulary, base_tokens: int) -> bool:
    """Whether a base was trained with Theta's special tokens, so that it writes replies.

    Args:
        vocabulary: of the base, with Theta's special tokens.
        base_tokens: number of tokens of the base's own tokenizer.
    """
    return max(vocabulary.special_ids.values()) < base_tokens


def texts(
    model: "GPT2LMHeadModel", vocabulary: Vocabulary, progress: Progress, tokens: int = TOKENS
) -> Iterator[dict[str, Any]]:
    """Yield plain texts of at most `SAMPLING.max_length` tokens, as {"text": ...}.

    Args:
        model: on its device and in its number format, resized for the vocabulary.
        vocabulary: of the base, with Theta's special tokens.
        progress: is told which fraction is done.
        tokens: about how many to write.
    """
    begin = vocabulary.tokenizer.token_to_id(END_OF_TEXT)
    end = vocabulary.end_id if begin is None else begin
    engine = _engine(model, vocabulary, end)
    # Enough of them, even if each is as short as a sentence.
    requests = [Request([end], SAMPLING, seed) for seed in range(tokens // 16 + 1)]
    for _, ids in _samples(engine, requests, tokens, progress):
        if text := _text(vocabulary, ids, end):
            yield {"text": text}


def replies(
    model: "GPT2LMHeadModel",
    vocabulary: Vocabulary,
    questions: Sequence[str],
    progress: Progress,
    tokens: int = TOKENS,
) -> Iterator[dict[str, Any]]:
    """Yield conversations of a question and the model's reply, as {"question": ..., "answer": ...}.

    Args:
        questions: each is asked once, in this order or another, until `tokens` are written.
        model, vocabulary, progress, tokens: see `texts`.
    """
    engine, end = _engine(model, vocabulary, vocabulary.end_id), vocabulary.end_id
    prompts = vocabulary.encode_many([list(render_prompt([Message("user", text)])) for text in questions])
    asked = [
        place for place, (ids, _) in enumerate(prompts) if len(ids) + SAMPLING.max_length < engine.engine.positions
    ]
    requests = [Request(prompts[place][0], SAMPLING, place) for place in asked]
    for number, ids in _samples(engine, requests, tokens, progress):
        if ids[-1] == end and (answer := _text(vocabulary, ids, end)):
            yield {"question": questions[asked[number]], "answer": answer}


def _engine(model: "GPT2LMHeadModel", vocabulary: Vocabulary, end: int) -> SharedEngine:
    """Return an engine that writes no special token but `end`."""
    special = {*vocabulary.special_ids.values(), vocabulary.tokenizer.token_to_id(END_OF_TEXT)} - {end, None}
    writer = writers.of_model(model, lambda rows: sorted({*special, *range(vocabulary.size, rows)}))
    return SharedEngine(Engine(writer, end))


def _samples(
    engine: SharedEngine, requests: Sequence[Request], tokens: int, progress: Progress
) -> Iterator[tuple[int, list[int]]]:
    """Yield the number of a request and its ids whenever one is complete, until `tokens` or `SECONDS` are over.

    Those that are not complete then come last, cut.
    """
    begin, open_ids = monotonic(), dict[int, list[int]]()
    for written, (number, token) in enumerate(engine.write(requests, ROWS), start=1):
        open_ids.setdefault(number, []).append(token.id)
        if token.last:
            yield number, open_ids.pop(number)
        done = max(written / tokens, (monotonic() - begin) / SECONDS)
        progress(min(done, 1.0))
        if done >= 1:
            break
    yield from open_ids.items()


def _text(vocabulary: Vocabulary, ids: Sequence[int], end: int) -> str:
    """Decode a sample; one that was cut may end within a character."""
    kept = [id_ for id_ in ids if id_ != end]
    text: str = vocabulary.tokenizer.decode(kept, skip_special_tokens=False)
    return text.rstrip("\ufffd").strip()
