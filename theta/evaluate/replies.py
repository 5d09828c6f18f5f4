"""What the model itself says to questions of the test split, beside what it should have said.

Sampled replies are judged by figures that need no other model: likeness to the reference (chrF), repetition, whether
and when the reply ends. They are for comparing runs; how good a reply is, only reading it tells.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise, zip_longest
from typing import Any

from sacrebleu.metrics import CHRF

from theta.conversation.messages import Conversation
from theta.errors import DataError, GenerationError
from theta.evaluate.likelihood import Figures
from theta.generate.assistant import Reply, ThetaModel
from theta.generate.prompt import fit


@dataclass(frozen=True, slots=True)
class Answered:
    """A test conversation and the model's own version of its last reply."""

    conversation: Conversation
    reply: Reply

    @property
    def reference(self) -> str:
        """What the conversation says in this place."""
        return self.conversation.messages[-1].content

    @property
    def chrf(self) -> float:
        """Likeness of the reply to the reference, 0 to 100; see `figures`."""
        return float(CHRF().sentence_score(self.reply.text, [self.reference]).score)

    def to_json(self) -> dict[str, Any]:
        """The form of an entry of `metrics/replies.yaml`."""
        value = self.conversation.to_json()
        return {
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
    model: ThetaModel, conversations: Iterable[Conversation], *, replies: int, batch_size: int, seed: int
) -> list[Answered]:
    """Let the model write the last reply of some conversations, with the parameters it recommends.

    Args:
        conversations: the test split, in its order.
        replies: how many to answer, drawn evenly over domains. There may be fewer: prompts that leave no room for a
            reply are passed over, and so are plain texts, which ask nothing. Of texts alone there are none.
        batch_size: replies written side by side.
        seed: the same seed gives the same replies.

    Raises:
        DataError: no prompt leaves room for a reply.
    """
    asking = [each for each in conversations if not each.is_text]
    chosen = list(islice((each for each in by_turns(asking) if _fits(each, model)), replies))
    if asking and not chosen:
        raise DataError("No conversation of the test split has a question short enough to be answered by the model.")
    prompts = [each.messages[:-1] for each in chosen]
    written = model.generate_batch(prompts, batch_size=batch_size, seed=seed)
    return [Answered(conversation, reply) for conversation, reply in zip(chosen, written, strict=True)]


def by_turns(conversations: Iterable[Conversation]) -> Iterator[Conversation]:
    """The first conversation of each domain (by name), then the second of each, and so on."""
    domains: dict[str, list[Conversation]] = {}
    for conversation in conversations:
        domains.setdefault(conversation.domain, []).append(conversation)
    for turn in zip_longest(*(domains[name] for name in sorted(domains))):
        yield from (conversation for conversation in turn if conversation is not None)


def _fits(conversation: Conversation, model: ThetaModel) -> bool:
    try:
        fit(
            conversation.messages[:-1],
            model.vocabulary,
            positions=model.model.config.n_positions,
            max_length=model.settings.max_length,
        )
    except GenerationError:
        return False
    return True


def figures(answers: Sequence[Answered]) -> Figures:
    """The figures of all replies together.

    Returns:
        replies: how many.
        chrf: F-score of character n-grams of 1 to 6 against the references, recall weighing twice, 0 to 100
            (Popović 2015, 2016; as sacrebleu computes it over a corpus).
        repetition_rate: share of the pairs of neighbouring words that stood in the same reply before. Pairs, because
            no_repeat_ngram_size rules out longer repeats, and a share of those would always be zero.
        ended_rate: share of replies that the model ended, and not the limit.
        length_ratio: words of the replies by words of the references.
        empty: replies without any text.
        Without replies only their number.
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
    """How many pairs of neighbouring words a text has, and how many of them it had before."""
    pairs = list(pairwise(text.lower().split()))
    return len(pairs), len(pairs) - len(set(pairs))


def _words(texts: Iterable[str]) -> int:
    return sum(len(text.split()) for text in texts)
