from theta.conversation.messages import Conversation, Message
from theta.evaluate.answers import figures, first_exchanges, ruled_out
from theta.evaluate.replies import Answered
from theta.generate.assistant import Reply
from theta.tokens.vocabulary import Vocabulary

ANSWER = "DNS turns names into addresses, so that nobody has to remember numbers."


def chat(question: str, *, domain: str = "linux", source: str = "x#1") -> Conversation:
    return Conversation((Message("user", question), Message("assistant", ANSWER)), domain, source)


def answered(text: str, domain: str = "linux") -> Answered:
    return Answered(chat("What is DNS?", domain=domain), Reply(text, 5, ended=True))


def test_an_answer_in_nearly_the_same_words_is_right() -> None:
    nearly = ANSWER.replace("nobody has to", "no one must")
    found = figures([answered(ANSWER), answered(nearly), answered("A router.")], [answered("Names.", "git")])
    assert found is not None
    assert found["trained"] == {"questions": 3, "right": 2, "share": 2 / 3, "verbatim": 1}
    assert found["new_wordings"] == {"questions": 1, "right": 0, "share": 0.0, "verbatim": 0}
    assert found["domains"]["git"] == {"trained": None, "new_wordings": found["new_wordings"]}
    assert list(found["domains"]) == ["git", "linux"]


def test_answers_that_the_rule_against_repetition_excludes_are_counted(vocabulary: Vocabulary) -> None:
    answers = [
        Answered(Conversation((Message("user", "?"), Message("assistant", text)), "x", "x#1"), Reply("", 0, ended=True))
        for text in ("a b c d", "a b c b", "a b c d b c", "a b c d e b c d")  # a token for each letter
    ]
    assert [ruled_out(answers, vocabulary, size) for size in (0, 1, 2, 3, 4)] == [
        {"answers": count, "no_repeat_ngram_size": size} for size, count in enumerate((0, 3, 2, 1, 0))
    ]
    assert ruled_out([], vocabulary, 3) is None


def test_without_questions_there_are_no_figures() -> None:
    assert figures([], []) is None


def test_the_first_exchange_is_asked_with_its_system_message() -> None:
    system, text = Message("system", "Be short."), Message("text", "A plain text.")
    ask, reply = chat("Why?").messages
    later = (Message("user", "And then?"), Message("assistant", "Nothing."))
    masked = Message("assistant", "Not learned.", learned=False)
    given = [
        Conversation((system, ask, reply, *later), "linux", "x#1"),
        Conversation((text,), "linux", "x#2"),
        Conversation((ask, masked, *later), "linux", "x#3"),
    ]
    assert [each.messages for each in first_exchanges(given, 10)] == [(system, ask, reply)]


def test_the_same_questions_are_chosen_in_every_run_and_more_of_them_include_these() -> None:
    given = [chat(f"Question {number}?", source=f"x#{number}") for number in range(100)]
    few, more = first_exchanges(given, 10), first_exchanges(given, 30)
    assert len(few) == 10
    assert {each.source for each in few} < {each.source for each in more}
    assert few == first_exchanges(given, 10) == sorted(few, key=given.index)
    assert few != given[:10]
