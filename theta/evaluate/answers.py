"""Whether trained answers are given: to the questions that were trained, and to new wordings of them.

A reply is *right* if its chrF against the trained answer is above RIGHT_CHRF; such replies differ in a word or a
clause.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from heapq import nsmallest
from itertools import groupby
from typing import Any

from theta.conversation.messages import Conversation, domains_shown
from theta.conversation.template import Span
from theta.evaluate.replies import Answered
from theta.tokens.vocabulary import Vocabulary


def first_exchanges(conversations: Iterable[Conversation], most: int) -> list[Conversation]:
    """Return the first question and its answer of up to `most` chats, the same ones in every run, in their order.

    Chats whose first answer is not learned are left out, and so are plain texts.
    """
    # data.weights repeats a conversation in consecutive lines.
    distinct = (next(same) for _, same in groupby(conversations))
    openings = enumerate(opening for each in distinct for opening in _opening(each))
    chosen = nsmallest(most, openings, key=lambda each: _hash(each[1]))
    return [opening for _, opening in sorted(chosen, key=lambda each: each[0])]


def _opening(conversation: Conversation) -> Iterator[Conversation]:
    if not conversation.is_text:
        messages = conversation.messages[: 2 + (conversation.messages[0].role == "system")]
        if messages[-1].learned:
            yield replace(conversation, messages=messages)


def _hash(conversation: Conversation) -> bytes:
    return hashlib.sha256(f"{conversation.source}\0{conversation.opening}".encode("utf-8", "surrogatepass")).digest()


def ruled_out(trained: Sequence[Answered], vocabulary: Vocabulary, size: int) -> dict[str, int] | None:
    """Count the trained answers that have a sequence of `size` tokens twice, so that generation cannot give them.

    Args:
        size: generation.no_repeat_ngram_size; 0 rules nothing out.

    Returns:
        The object `ruled_out` of metrics/evaluate.json; None if nothing was asked.
    """
    if not trained:
        return None
    encoded = vocabulary.encode_many([[Span(each.reference, learned=True)] for each in trained])
    return {"answers": sum(_repeats(ids, size) for ids, _ in encoded), "no_repeat_ngram_size": size}


def _repeats(ids: Sequence[int], size: int) -> bool:
    sequences = [tuple(ids[at : at + size]) for at in range(len(ids) - size + 1)] if size else []
    return len(set(sequences)) < len(sequences)


def figures(trained: Sequence[Answered], new_wordings: Sequence[Answered]) -> dict[str, Any] | None:
    """Return the section `answers` of metrics/evaluate.json; None if nothing was asked.

    Returns:
        trained, new_wordings: how many questions were asked, to how many the reply was right, the share, and how many
            replies equal the trained answer to the letter. None where none was asked.
        domains: the same for each domain.
    """
    if not trained and not new_wordings:
        return None
    counts = Counter(each.conversation.domain for each in (*trained, *new_wordings))
    both = {"trained": trained, "new_wordings": new_wordings}
    domains = {
        domain: {
            name: _counted([each for each in answers if each.conversation.domain == domain])
            for name, answers in both.items()
        }
        for domain in sorted(domains_shown(counts))
    }
    return {**{name: _counted(answers) for name, answers in both.items()}, "domains": domains}


def _counted(answers: Sequence[Answered]) -> dict[str, Any] | None:
    if not answers:
        return None
    right = sum(each.is_right for each in answers)
    return {
        "questions": len(answers),
        "right": right,
        "share": right / len(answers),
        "verbatim": sum(each.reply.text == each.reference for each in answers),
    }
