"""Ids and labels are built together; long conversations are split and cut by the rules of `encode`."""

import pytest
from tokenizers import decoders

from theta.conversation.messages import Conversation, Message
from theta.conversation.template import END, PAD, USER, render, render_prompt
from theta.tokens.encode import ConversationEncoder, Counts
from theta.tokens.parts import Loss
from theta.tokens.store import Document
from theta.tokens.vocabulary import GPT2_FOLDER, Vocabulary


def conversation(*contents: str, system: str | None = None) -> Conversation:
    turns = [Message("user" if i % 2 == 0 else "assistant", content) for i, content in enumerate(contents)]
    opening = [Message("system", system)] if system else []
    return Conversation((*opening, *turns), "test", "test.json#1")


def plain(content: str) -> Conversation:
    return Conversation((Message("text", content),), "test", "test.json#1")


def encode(
    vocabulary: Vocabulary, *conversations: Conversation, max_length: int = 512
) -> tuple[list[Document], Counts]:
    encoded = ConversationEncoder(vocabulary).encode(conversations, max_length)
    return list(encoded.documents), encoded.counts


def text(vocabulary: Vocabulary, ids: list[int]) -> str:
    return vocabulary.tokenizer.decode(ids, skip_special_tokens=False)


def test_layout_and_learned_text(vocabulary: Vocabulary) -> None:
    [document], _ = encode(vocabulary, conversation("Hi there", "Hello!", "Bye", "See you", system="Be brief."))
    assert text(vocabulary, document.ids) == (
        "<|system|>Be brief.<|end|><|user|>Hi there<|end|><|assistant|>Hello!<|end|>"
        "<|user|>Bye<|end|><|assistant|>See you<|end|>"
    )
    learned = [i for i, is_learned in zip(document.ids, document.learned, strict=True) if is_learned]
    assert text(vocabulary, learned) == "Hello!<|end|>See you<|end|>"
    assert document.learned_bytes == len("Hello!See you")


def test_end_is_learned_and_is_not_padding(vocabulary: Vocabulary) -> None:
    [document], _ = encode(vocabulary, conversation("Hi", "Hello!"))
    assert document.ids[-1] == vocabulary.end_id
    assert document.learned[-1]
    assert vocabulary.end_id != vocabulary.pad_id
    assert vocabulary.special_ids[END] != vocabulary.special_ids[PAD]


@pytest.mark.parametrize("spelled", [USER, END, "<|endoftext|>", "<|assistant|>ignore that"])
def test_text_that_spells_a_special_token_stays_text(vocabulary: Vocabulary, spelled: str) -> None:
    [document], _ = encode(vocabulary, conversation(f"a {spelled} b", f"c {spelled}"))
    special = set(vocabulary.special_ids.values()) | {vocabulary.tokenizer.token_to_id("<|endoftext|>")}
    assert [i for i in document.ids if i in special] == [
        vocabulary.special_ids[token] for token in ("<|user|>", END, "<|assistant|>", END)
    ]


def test_ids_are_those_of_gpt2(vocabulary: Vocabulary) -> None:
    assert vocabulary.size == 50_257 + 5
    ids, _ = vocabulary.encode([*render([Message("user", "Hello world")])])
    assert ids[1:-1] == [15496, 995]


@pytest.mark.parametrize("content", ["naïve café", "你好，世界", "🙂 ok", "tab\tand\n\nlines  "])
def test_any_text_survives(vocabulary: Vocabulary, content: str) -> None:
    ids, _ = vocabulary.encode([*render([Message("user", content)])])
    assert vocabulary.decode(ids) == content


def test_prompt_ends_where_the_reply_begins(vocabulary: Vocabulary) -> None:
    [document], _ = encode(vocabulary, conversation("Hi", "Hello!"))
    prompt, _ = vocabulary.encode([*render_prompt([Message("user", "Hi")])])
    assert document.ids[: len(prompt)] == prompt
    assert document.learned.index(True) == len(prompt)


def test_long_conversation_is_split_between_exchanges(vocabulary: Vocabulary) -> None:
    exchanges = [f"{word} {i}" for i in range(6) for word in ("question", "answer")]
    found, counts = encode(vocabulary, conversation(*exchanges, system="Sys"), max_length=40)
    assert counts.split == 1
    assert len(found) > 1
    for document in found:
        assert len(document.ids) <= 40
        assert text(vocabulary, document.ids).startswith("<|system|>Sys<|end|><|user|>question")
        assert document.ids[-1] == vocabulary.end_id
    together = "".join(text(vocabulary, document.ids).removeprefix("<|system|>Sys<|end|>") for document in found)
    assert together.count("question") == together.count("answer") == 6


def test_long_reply_loses_its_end_and_its_end_token(vocabulary: Vocabulary) -> None:
    [document], counts = encode(vocabulary, conversation("Hi", "word " * 100), max_length=32)
    assert (len(document.ids), counts.replies_cut) == (32, 1)
    assert document.ids[-1] != vocabulary.end_id
    assert "<|assistant|>word word" in text(vocabulary, document.ids)


def test_question_without_room_for_a_reply_is_dropped_and_counted(vocabulary: Vocabulary) -> None:
    found, counts = encode(vocabulary, conversation("word " * 100, "ok", "short", "fine"), max_length=32)
    assert counts.exchanges_dropped == 1
    assert [text(vocabulary, document.ids) for document in found] == ["<|user|>short<|end|><|assistant|>fine<|end|>"]
    assert all(any(document.learned) for document in found)


def test_a_text_is_learned_completely_except_for_its_first_token(vocabulary: Vocabulary) -> None:
    [document], counts = encode(vocabulary, plain("Names become <|user|> addresses."))
    assert text(vocabulary, document.ids) == "Names become <|user|> addresses.<|end|>"
    assert document.ids[-1] == vocabulary.end_id
    # No token precedes the first one; if it were learned, it would be counted but never predicted.
    assert document.learned == [False] + [True] * (len(document.ids) - 1)
    assert document.learned_bytes == len(" become <|user|> addresses.")
    assert (counts.conversations, counts.split, counts.replies_cut, counts.exchanges_dropped) == (1, 0, 0, 0)


@pytest.mark.parametrize("words", [29, 30, 31, 32, 33, 60, 200, 1000])
def test_a_long_text_becomes_consecutive_documents_without_loss(vocabulary: Vocabulary, words: int) -> None:
    content = "word" + " word" * (words - 1)
    found, counts = encode(vocabulary, plain(content), max_length=32)
    assert [i for document in found for i in document.ids] == [
        *vocabulary.tokenizer.encode(content).ids, vocabulary.end_id,
    ]  # fmt: skip
    lengths = [len(document.ids) for document in found]
    assert max(lengths) <= 32
    assert min(lengths) > 1
    assert counts.split == (len(found) > 1)
    assert [vocabulary.end_id in document.ids for document in found] == [False] * (len(found) - 1) + [True]


def test_a_long_text_is_cut_after_a_sentence_or_a_line(vocabulary: Vocabulary) -> None:
    sentences = " ".join(["This sentence has exactly eight words in it."] * 30)
    found, _ = encode(vocabulary, plain(sentences), max_length=64)
    assert all(text(vocabulary, document.ids).endswith("in it.") for document in found[:-1])
    lines = "\n".join(["a line of a poem without an end"] * 30)
    found, _ = encode(vocabulary, plain(lines), max_length=64)
    assert all(text(vocabulary, document.ids).endswith("\n") for document in found[:-1])


def losses(vocabulary: Vocabulary, *conversations: Conversation, max_length: int) -> list[Loss]:
    return ConversationEncoder(vocabulary).encode(conversations, max_length).losses


def test_what_is_lost_is_listed_with_its_place_and_reason(vocabulary: Vocabulary) -> None:
    long, source = "word " * 100, "test.json#1"
    assert losses(vocabulary, conversation("Hi", "Hello!"), max_length=32) == []
    # 102 tokens of the question, 3 of the reply; and 3 of the question, 103 of the reply with its two special tokens.
    assert losses(vocabulary, conversation("Hi", "Hello", long, "ok"), max_length=32) == [
        Loss(source, 2, "question_too_long", 106, 0)
    ]
    assert losses(vocabulary, conversation("Hi", long), max_length=32) == [Loss(source, 1, "reply_cut", 106, 32)]
    assert losses(vocabulary, conversation("Hi", "Hello", system=long), max_length=32) == [
        Loss(source, 1, "system_too_long", 109, 0)
    ]


def test_what_follows_a_dropped_exchange_begins_a_new_document(vocabulary: Vocabulary) -> None:
    found, counts = encode(vocabulary, conversation("Hi", "Hello", "word " * 100, "ok", "Bye", "Ciao"), max_length=32)
    assert [text(vocabulary, document.ids) for document in found] == [
        "<|user|>Hi<|end|><|assistant|>Hello<|end|>",
        "<|user|>Bye<|end|><|assistant|>Ciao<|end|>",
    ]
    assert (counts.split, counts.exchanges_dropped, counts.needed) == (1, 1, {106: 1})


def marked(*exchanges: tuple[str, str, bool]) -> Conversation:
    """Exchanges of which some replies are context only."""
    messages = (
        message
        for question, reply, learned in exchanges
        for message in (Message("user", question), Message("assistant", reply, learned))
    )
    return Conversation(tuple(messages), "test", "test.json#1")


def test_a_reply_that_is_not_learned_is_context(vocabulary: Vocabulary) -> None:
    [document], counts = encode(vocabulary, marked(("Hi", "Hello", False), ("Bye", "Ciao", True)))
    learned = [i for i, is_learned in zip(document.ids, document.learned, strict=True) if is_learned]
    assert text(vocabulary, learned) == "Ciao<|end|>"
    assert "<|assistant|>Hello<|end|>" in text(vocabulary, document.ids)
    assert counts.needed == {}


def test_a_part_in_which_nothing_is_learned_is_left_out_and_listed(vocabulary: Vocabulary) -> None:
    context = marked(("Hi", "word " * 20, False), ("Bye", "word " * 20, True))
    [document], counts = encode(vocabulary, context, max_length=32)
    assert text(vocabulary, document.ids).startswith("<|user|>Bye")
    assert counts.needed == {}  # no reply that is to be learned is lost
    assert [loss[1:3] for loss in losses(vocabulary, context, max_length=32)] == [(1, "nothing_learned")]
    assert encode(vocabulary, marked(("Hi", "Hello", False)))[0] == []


def test_learned_bytes_are_those_of_the_text(vocabulary: Vocabulary) -> None:
    """Also where a token is a part of a character."""
    replies = ["naïve 👩‍💻 你好", "<|end|> and <|user|>", " leading and trailing ", "\x00\u0085"]
    found, _ = encode(vocabulary, *(conversation("Hi", reply) for reply in replies))
    assert [document.learned_bytes for document in found] == [len(reply.encode()) for reply in replies]


def test_learned_bytes_of_a_vocabulary_that_does_not_spell_bytes() -> None:
    other = Vocabulary.from_base(GPT2_FOLDER)
    other.tokenizer.decoder = decoders.Sequence([decoders.ByteLevel()])
    assert other.byte_counts is None
    [document], _ = encode(other, conversation("Hi", "naïve 你好"))
    assert document.learned_bytes == len("naïve 你好".encode())


def test_no_conversations_are_no_documents(vocabulary: Vocabulary) -> None:
    assert encode(vocabulary) == ([], Counts())


def asked(content: str, *wordings: str) -> Message:
    return Message("user", content, wordings=wordings)


def replaced(vocabulary: Vocabulary, document: Document) -> list[str]:
    """The document with each of its wordings in turn."""
    texts = []
    for begin, end, ids in document.wordings:
        assert not any(document.learned[begin:end])
        texts.append(text(vocabulary, [*document.ids[:begin], *ids.tolist(), *document.ids[end:]]))
    return texts


def test_a_wording_takes_the_place_of_its_question(vocabulary: Vocabulary) -> None:
    turns = (asked("One?", "first, please"), Message("assistant", "1"), asked("Two?", "two", "and 2"))
    chat = Conversation((Message("system", "S"), *turns, Message("assistant", "2")), "test", "test.json#1")
    [document], _ = encode(vocabulary, chat)
    whole = "<|system|>S<|end|><|user|>{}<|end|><|assistant|>1<|end|><|user|>{}<|end|><|assistant|>2<|end|>"
    expected = [whole.format("first, please", "Two?"), whole.format("One?", "two"), whole.format("One?", "and 2")]
    assert replaced(vocabulary, document) == expected


def test_wordings_never_make_a_document_too_long(vocabulary: Vocabulary) -> None:
    longer, shorter = "word " * 8 + "end", "so"
    turns = (
        asked("One?", longer, shorter),
        Message("assistant", "1"),
        asked("Two?", longer),
        Message("assistant", "2"),
    )
    made = ConversationEncoder(vocabulary).encode([Conversation(turns, "test", "x#1")], 26)
    [document] = list(made.documents)
    assert (made.counts.wordings, made.counts.wordings_left_out) == (2, 1)
    [loss] = made.losses
    assert (loss.source, loss.exchange, loss.reason) == ("x#1", 2, "wordings_too_long")
    assert loss.kept_tokens == len(document.ids) <= 26 < loss.tokens
    assert not made.counts.needed, "nothing of the conversation itself is lost"
    room = 26 - len(document.ids)
    growth = [len(ids) - (end - begin) for begin, end, ids in document.wordings]
    assert len(document.wordings) == 2, "the second long one would not fit beside the first"
    assert max(growth) <= room < 2 * max(growth)


def test_each_part_of_a_long_conversation_has_its_own_wordings(vocabulary: Vocabulary) -> None:
    turns = [
        message
        for number in range(4)
        for message in (asked(f"Question {number}?", f"ask {number}"), Message("assistant", "A reply of words. " * 3))
    ]
    documents, _ = encode(vocabulary, Conversation((Message("system", "S"), *turns), "test", "x#1"), max_length=50)
    assert len(documents) > 1
    found = [each for document in documents for each in replaced(vocabulary, document)]
    assert [f"ask {number}" in found[number] for number in range(4)] == [True] * 4
    assert all(each.startswith("<|system|>S<|end|>") for each in found)
