"""The figures of a corpus for metrics/prepare.json: the same conversations give the same bytes."""

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from theta.conversation.messages import OTHER_DOMAINS, Conversation, domains_shown
from theta.corpus.shapes import Reject

DUPLICATE = "duplicate"
"""The reason of a reject that repeats an earlier conversation; such rejects are counted separately."""


def report(
    splits: Mapping[str, Sequence[Conversation]],
    rejects: Sequence[Reject],
    *,
    files: int,
    unanswered_questions_cut: int,
) -> dict[str, Any]:
    """Return counts of read, kept and dropped items, and sizes of the kept conversations."""
    kept = [conversation for conversations in splits.values() for conversation in conversations]
    reasons = Counter(reject.reason for reject in rejects)
    duplicates = reasons.pop(DUPLICATE, 0)
    return {
        "files": files,
        "items": len(kept) + len(rejects),
        "kept": len(kept),
        "duplicates": duplicates,
        "rejected": reasons.total(),
        "rejected_by_reason": dict(sorted(reasons.items())),
        "unanswered_questions_cut": unanswered_questions_cut,
        "conversations": {name: len(conversations) for name, conversations in splits.items()},
        "domains": _domains(kept),
        "messages": sum(len(conversation.messages) for conversation in kept),
        "texts": sum(conversation.is_text for conversation in kept),
        "multi_turn_conversations": sum(len(_replies(conversation)) > 1 for conversation in kept),
        "reply_words": _distribution([len(reply.split()) for each in kept for reply in _replies(each)]),
    }


def summary(figures: Mapping[str, Any]) -> str:
    """Return the report in one line."""
    splits = " / ".join(f"{count} {name}" for name, count in figures["conversations"].items())
    dropped = {**figures["rejected_by_reason"], DUPLICATE: figures["duplicates"]}
    reasons = ", ".join(f"{reason} x{count}" for reason, count in dropped.items() if count)
    line = f"kept {figures['kept']} of {figures['items']} conversations: {splits}"
    return f"{line}; rejected: {reasons}" if reasons else line


def _replies(conversation: Conversation) -> list[str]:
    return [message.content for message in conversation.messages if message.role == "assistant"]


def _domains(conversations: Sequence[Conversation]) -> dict[str, int]:
    """Conversations by domain: the largest domains by name, all others together."""
    counts = Counter(conversation.domain for conversation in conversations)
    shown = {domain: counts[domain] for domain in sorted(domains_shown(counts))}
    others = counts.total() - sum(shown.values())
    return {**shown, OTHER_DOMAINS: others} if others else shown


def _distribution(values: list[int]) -> dict[str, float]:
    """Mean, median and the value that 95 % of the values do not exceed; empty where there are no values."""
    if not values:
        return {}
    ordered = sorted(values)
    return {
        "mean": round(statistics.fmean(ordered), 1),
        "median": statistics.median(ordered),
        "p95": ordered[math.ceil(0.95 * len(ordered)) - 1],
    }
