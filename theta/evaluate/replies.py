"""The model's own replies to questions of the test split, next to the reference replies.

Sampled replies are measured by figures that need no other model: similarity to the reference (chrF), repetition, and
whether and when the reply ends. They serve to compare runs; to judge how good a reply is, read it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise, zip_longest
from typing import Any

from sacrebleu.metrics import CHRF

from theta.conversation.messages import Conversation
from theta.errors import DataError, GenerationError
from theta.evaluate.likelihood import Figures
from theta.evaluate.settings import RIGHT_CHRF
from theta.generate.assistant import Reply, ThetaModel


@dataclass(frozen=True, slots=True)
class Answered:
    """A test conversation and the model's own version of its last reply."""

    conversation: Conversation
    reply: Reply
    kind: str = "test"
    """Where the question is from: `test`, `trained` or `new wording`."""

    @property
    def reference(self) -> str:
        """The last reply of the conversation."""
        return self.conversation.messages[-1].content

    @property
    def chrf(self) -> float:
        """Similarity of the reply to the reference, 0 to 100; see `figures`."""
        return float(CHRF().sentence_score(self.reply.text, [self.reference]).score)

    @property
    def is_right(self) -> bool:
        """Whether the reply differs from the reference in a word or a clause at most."""
        return self.chrf > RIGHT_CHRF

    def to_json(self) -> dict[str, Any]:
        """Return the object that an entry of `metrics/replies.yaml` holds."""
        value = self.conversation.to_json()
        return {
            "kind": self.kind,
            "domain": value["domain"],
            "source": value["source"],
            "messages": value["messages"][:-1],
            "reference": self.reference,
            "reply": self.reply.text,
            "chrf": round(self.chrf, 2),
            "ended": self.reply.ended,
            "tokens": self.reply.tokens,
        }


def answer(
    model: ThetaModel,
    conversations: Iterable[Conversation],
    *,
    replies: int,
    batch_size: int,
    seed: int,
    kind: str = "test",
) -> list[Answered]:
    """Let the model write the last reply of some conversations, with its own generation settings.

    Args:
        conversations: the test split, in order, or others.
        replies: number of conversations to answer, drawn evenly over domains. There may be fewer, because plain texts
            and prompts that leave no room for a reply are skipped; a split of plain texts alone gives none.
        batch_size: number of replies generated in parallel.
        seed: seed of the sampling; the same seed gives the same replies.
        kind: what the conversations are.

    Raises:
        DataError: no prompt leaves room for a reply.
    """
    chats = [each for each in conversations if not each.is_text]
    chosen = list(islice((each for each in by_turns(chats) if _fits(each, model)), replies))
    if chats and not chosen:
        raise DataError(f"No conversation ({kind}) has a question short enough to be answered by the model.")
    prompts = [each.messages[:-1] for each in chosen]
    written = model.generate_batch(prompts, batch_size=batch_size, seed=seed)
    return [Answered(conversation, reply, kind) for conversation, reply in zip(chosen, written, strict=True)]


def by_turns(conversations: Iterable[Conversation]) -> Iterator[Conversation]:
    """Yield the first conversation of each domain (sorted by name), then the second of each, and so on."""
    domains: dict[str, list[Conversation]] = {}
    for conversation in conversations:
        domains.setdefault(conversation.domain, []).append(conversation)
    for turn in zip_longest(*(domains[name] for name in sorted(domains))):
        yield from (conversation for conversation in turn if conversation is not None)


def _fits(conversation: Conversation, model: ThetaModel) -> bool:
    try:
        model.fitted(conversation.messages[:-1])
    except GenerationError:
        return False
    return True


def figures(answers: Sequence[Answered]) -> Figures:
    """Return the figures of all replies together.

    Returns:
        replies: the number of replies. Without replies this is the only figure.
        chrf: F-score of character n-grams of 1 to 6 against the references, with recall weighted twice, 0 to 100
            (Popović 2015, 2016; as sacrebleu computes it over a corpus).
        repetition_rate: fraction of the pairs of adjacent words that occurred earlier in the same reply. Pairs, because
            no_repeat_ngram_size rules out longer repeats, so that their rate would always be zero.
        ended_rate: fraction of replies that the model ended itself, before the limit.
        length_ratio: words of the replies divided by words of the references.
        empty: number of replies without any text.
    """
    if not answers:
        return {"replies": 0}
    texts, references = [each.reply.text for each in answers], [each.reference for each in answers]
    pairs, repeated = map(sum, zip(*map(_word_pairs, texts), strict=True))
    return {
        "replies": len(answers),
        "chrf": float(CHRF().corpus_score(texts, [references]).score),
        "repetition_rate": repeated / pairs if pairs else 0.0,
        "ended_rate": sum(each.reply.ended for each in answers) / len(answers),
        "length_ratio": _words(texts) / max(_words(references), 1),
        "empty": sum(not text.strip() for text in texts),
    }


def _word_pairs(text: str) -> tuple[int, int]:
    """The number of pairs of adjacent words in a text, and how many of them occurred earlier in it."""
    pairs = list(pairwise(text.lower().split()))
    return len(pairs), len(pairs) - len(set(pairs))


def _words(texts: Iterable[str]) -> int:
    return sum(len(text.split()) for text in texts)
