"""The figures of a corpus."""

from theta.conversation.messages import Conversation, Message
from theta.corpus.report import report, summary
from theta.corpus.shapes import Reject


def conversation(domain: str, *replies: str) -> Conversation:
    messages = [each for reply in replies for each in (Message("user", "Why?"), Message("assistant", reply))]
    return Conversation(tuple(messages), domain, "x.json#1")


SPLITS = {
    "train": [conversation("linux", "one two three"), conversation("git", "one", "one two")],
    "validation": [conversation("linux", "one two three four")],
    "test": [conversation("smalltalk", " ".join(["word"] * 10))],
}
REJECTS = [Reject(f"x.json#{number}", reason, "", {}) for number, reason in enumerate(
    ["empty_reply", "unknown_role", "duplicate", "empty_reply"]
)]  # fmt: skip


def test_every_figure() -> None:
    assert report(SPLITS, REJECTS, files=2, unanswered_questions_cut=1) == {
        "files": 2,
        "items": 8,
        "kept": 4,
        "duplicates": 1,
        "rejected": 3,
        "rejected_by_reason": {"empty_reply": 2, "unknown_role": 1},
        "unanswered_questions_cut": 1,
        "conversations": {"train": 2, "validation": 1, "test": 1},
        "domains": {"git": 1, "linux": 2, "smalltalk": 1},
        "messages": 10,
        "texts": 0,
        "multi_turn_conversations": 1,
        "reply_words": {"mean": 4.0, "median": 3, "p95": 10},
    }


def test_texts_have_no_replies() -> None:
    texts = [Conversation((Message("text", f"Chapter {number}"),), "book", "x.json#1") for number in range(3)]
    figures = report({"train": texts}, [], files=1, unanswered_questions_cut=0)
    assert (figures["texts"], figures["reply_words"], figures["multi_turn_conversations"]) == (3, {}, 0)


def test_the_summary_is_one_line() -> None:
    figures = report(SPLITS, REJECTS, files=2, unanswered_questions_cut=1)
    assert summary(figures) == (
        "kept 4 of 8 conversations: 2 train / 1 validation / 1 test; "
        "rejected: empty_reply x2, unknown_role x1, duplicate x1"
    )
    assert summary(report(SPLITS, [], files=2, unanswered_questions_cut=0)).endswith("1 test")


def test_of_many_domains_the_largest_are_named() -> None:
    train = [conversation(f"topic {number:02}", "Yes.") for number in range(30)]
    train += [conversation("topic 29", "Yes.")]
    domains = report({"train": train}, [], files=1, unanswered_questions_cut=0)["domains"]
    assert len(domains) == 21
    assert domains["topic 29"] == 2
    assert domains["(others)"] == 10
    assert "topic 19" not in domains
