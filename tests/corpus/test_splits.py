"""What is held back is not learned in another place, and the shares are those that were asked for."""

import itertools
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support.corpora import Built, built
from theta.corpus import build, keys, outcome, records, splits
from theta.corpus.fingerprints import gram_set
from theta.corpus.report import warnings
from theta.errors import DataError

WORDS = (Path(__file__).parent / "words.txt").read_text().split()


def pair(question: str, answer: str) -> dict[str, str]:
    return {"question": question, "answer": answer}


def chat(*contents: str) -> dict[str, Any]:
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[n % 2], "content": content} for n, content in enumerate(contents)]}


def distinct(count: int, seed: int = 0) -> list[dict[str, str]]:
    """Pairs of which no two are alike."""
    draw = random.Random(seed)
    return [pair(" ".join(draw.sample(WORDS, 5)) + "?", " ".join(draw.sample(WORDS, 7))) for _ in range(count)]


def leaks(made: Built) -> list[tuple[str, str]]:
    """Pairs of a held-out and a train text that are equal or near twins, by comparing each with each."""
    texts: dict[str, set[tuple[str, str]]] = {"train": set(), "held": set()}
    for split in ("train", "validation", "test"):
        for row in made.rows[split]:
            side = "train" if split == "train" else "held"
            texts[side] |= {(m["role"], keys.key(m["content"])) for m in row["messages"]}
    equal = [(text, text) for role, text in texts["held"] & texts["train"] if role in ("user", "assistant")]
    grams = {text: gram_set(text) for side in texts.values() for role, text in side if role == "user"}
    twins = [
        (one, other)
        for (role, one), (other_role, other) in itertools.product(texts["held"], texts["train"])
        if role == other_role == "user" and len(grams[one] & grams[other]) >= 0.7 * len(grams[one] | grams[other])
    ]
    return equal + twins


def shares(made: Built) -> dict[str, float]:
    total = sum(len(made.rows[name]) for name in ("train", "validation", "test"))
    return {name: len(made.rows[name]) / total for name in ("validation", "test")}


@pytest.mark.parametrize(("validation", "test"), [(0.05, 0.05), (0.1, 0.2), (0.3, 0.4), (0, 0.1), (0.1, 0), (0, 0)])
def test_the_shares_are_those_that_were_asked_for(tmp_path: Path, validation: float, test: float) -> None:
    made = built(tmp_path, distinct(400), validation_fraction=validation, test_fraction=test)
    assert shares(made) == {"validation": pytest.approx(validation, rel=0.1), "test": pytest.approx(test, rel=0.1)}


@pytest.mark.parametrize("seed", range(6))
def test_nothing_held_out_stands_in_train(tmp_path: Path, seed: int) -> None:
    """Topics in templates, replies that several questions have, questions that return in later turns."""
    draw = random.Random(seed)
    templates = ["What is {}?", "Explain {} to me.", "what's {}", "How does {} work?", "Tell me all about {}, please."]
    topics = [" ".join(draw.sample(WORDS, 2)) for _ in range(60)]
    replies = [" ".join(draw.sample(WORDS, 6)) for _ in range(60)]
    items: list[dict[str, Any]] = []
    for _ in range(300):
        first, second = (draw.choice(templates).format(draw.choice(topics)) for _ in range(2))
        one, other = draw.sample(replies, 2)
        items.append(chat(first, one, second, other) if draw.random() < 0.1 else pair(first, one))
    made = built(tmp_path, [*items, *distinct(150, seed)])
    assert leaks(made) == []
    assert all(not any(counts.values()) for counts in made.facts.leaks.values())
    assert made.facts.loosened == ""
    assert shares(made) == {"validation": pytest.approx(0.1, rel=0.1), "test": pytest.approx(0.1, rel=0.1)}


@pytest.mark.parametrize(
    "variants",
    [
        ["What is DNS for?", "what is dns for", "  What is\nDNS for ?!", "“What is DNS for?”", "¿What is ＤＮＳ for?"],
        ["What is DNS for?", "Whats DNS for?", "What is the DNS for?", "1. What is DNS for?", "What is DNS for 🙂?"],
    ],
)
def test_variants_of_a_question_are_on_one_side(tmp_path: Path, variants: list[str]) -> None:
    for seed in range(5):
        asked = [pair(text, f"{WORDS[n]} {WORDS[n + seed]} {n}") for n, text in enumerate(variants)]
        made = built(tmp_path, [*asked, *distinct(60, seed)], validation_fraction=0.3, test_fraction=0.3)
        sides = {made.sides()[f"{tmp_path}/raw/items.jsonl#{n + 1}"] for n in range(len(variants))}
        assert len(sides) == 1


def test_a_question_of_a_later_turn_is_on_the_side_of_its_own_conversation(tmp_path: Path) -> None:
    pairs = distinct(100)
    chats = [chat("Hello there", "Hello, how are you?", each["question"], each["answer"]) for each in distinct(100)]
    made = built(tmp_path, [*pairs, *chats])
    sides = made.sides()
    source = f"{tmp_path}/raw/items.jsonl"
    assert all(sides[f"{source}#{n}"] == sides[f"{source}#{n + 100}"] for n in range(1, 101))


@pytest.mark.parametrize(
    "opening",
    [
        lambda n: chat("Hi", "Hello!", f"{WORDS[n % 30]} {n * 7919}?", f"It left at {n * 104729}."),
        lambda n: {"system": f"Document {n * 7919}: {WORDS[n % 30]}.", **pair("Summarise it.", f"{n * 104729}.")},
        lambda n: chat("/start", f"Welcome {n * 7919}"),
    ],
)
def test_what_opens_many_conversations_does_not_tie_them(tmp_path: Path, opening: Any) -> None:
    made = built(tmp_path, [*(opening(n) for n in range(400)), *distinct(2)])
    assert shares(made) == {"validation": pytest.approx(0.1, rel=0.1), "test": pytest.approx(0.1, rel=0.1)}
    assert "conversations have" in made.facts.loosened


def test_texts_with_one_head_are_divided(tmp_path: Path) -> None:
    head = "Permission is hereby granted, free of charge, to any person obtaining a copy of this text. " * 3
    draw = random.Random(0)
    texts = [{"text": head + " ".join(draw.choices(WORDS, k=400))} for _ in range(100)]
    assert shares(built(tmp_path, texts)) == {"validation": pytest.approx(0.1), "test": pytest.approx(0.1)}


def test_near_twins_that_are_all_alike_are_divided_and_it_is_said(tmp_path: Path) -> None:
    items = [pair(f"Filler question number {n} about thing {n * 7}?", f"Filler answer {n}.") for n in range(60)]
    made = built(tmp_path, items)
    assert shares(made) == {"validation": pytest.approx(0.1), "test": pytest.approx(0.1)}
    assert made.facts.loosened.endswith("nearly a question")


@pytest.mark.parametrize("count", [3, 4, 5, 10])
@pytest.mark.parametrize("seed", range(3))
def test_no_split_is_empty_even_with_few_conversations(tmp_path: Path, count: int, seed: int) -> None:
    made = built(tmp_path, distinct(count, seed), validation_fraction=0.01, test_fraction=0.01)
    assert sorted(len(made.rows[name]) for name in ("train", "validation", "test")) == [1, 1, count - 2]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_split_is_empty_where_its_fraction_is_0(tmp_path: Path, count: int) -> None:
    made = built(tmp_path / "none", distinct(count), validation_fraction=0, test_fraction=0)
    assert [len(made.rows[name]) for name in ("train", "validation", "test")] == [count, 0, 0]
    assert not made.facts.shares
    if count > 1:
        made = built(tmp_path / "test", distinct(count), validation_fraction=0, test_fraction=0.05)
        assert [len(made.rows[name]) for name in ("train", "validation", "test")] == [count - 1, 0, 1]


def test_train_is_not_empty_where_the_held_out_shares_are_large(tmp_path: Path) -> None:
    made = built(tmp_path, distinct(4), validation_fraction=0.4, test_fraction=0.4)
    assert {name: len(made.rows[name]) for name in ("train", "validation", "test")} == {
        "train": 1,
        "validation": 2,
        "test": 1,
    }
    assert made.facts.shares == "test has 1 of 4 conversations instead of 2"


def test_weights_that_leave_nothing_to_learn_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^data\.weights leaves no conversation in train"):
        built(tmp_path, distinct(30), weights={"items.jsonl": 0})


def test_a_few_large_groups_do_not_fill_the_held_out_splits(tmp_path: Path) -> None:
    openings = ["Hi", "Good morning to you", "Hey there"]
    chats = [
        chat(openings[n % 3], f"Welcome {n * 7919}.", each["question"], each["answer"])
        for n, each in enumerate(distinct(300))
    ]
    made = built(tmp_path, chats)
    assert shares(made) == {"validation": pytest.approx(0.1, rel=0.1), "test": pytest.approx(0.1, rel=0.1)}
    assert "conversations have" in made.facts.loosened


def test_a_split_that_is_larger_than_asked_for_is_named(tmp_path: Path) -> None:
    items = [pair(each["question"], f"{each['answer']} {n}") for each in distinct(10) for n in "ab"]
    made = built(tmp_path, items, validation_fraction=0.05, test_fraction=0.05)
    assert leaks(made) == []
    assert made.facts.shares == (
        "validation has 2 of 20 conversations instead of 1 and test has 2 of 20 conversations instead of 1"
    )


def test_replies_without_spaces_tie_although_short_replies_do_not(tmp_path: Path) -> None:
    """Chinese and Japanese put no spaces between words."""
    reply = "这是一个关于计算机网络的详细回答我们在这里解释域名系统如何工作以及为什么重要"
    items = [pair(each["question"], "Yes.") for each in distinct(300)]
    items += [pair(each["question"], f"{reply}{chr(0x4E00 + n // 2) * 9}") for n, each in enumerate(distinct(20, 1))]
    made = built(tmp_path, items)
    assert made.facts.loosened == "a reply of fewer than five words"
    learned = {row["messages"][1]["content"] for row in made.rows["train"]}
    held = [row["messages"][1]["content"] for name in ("validation", "test") for row in made.rows[name]]
    assert [each for each in held if each in learned and each != "Yes."] == []


@pytest.mark.parametrize("exact_twins_bytes", [build.EXACT_TWINS_BYTES, 0])
def test_the_leak_figures_are_those_of_a_plain_comparison(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exact_twins_bytes: int
) -> None:
    """Near twins that are on both sides because all questions are alike."""
    monkeypatch.setattr(build, "EXACT_TWINS_BYTES", exact_twins_bytes)
    made = built(tmp_path, [pair(f"Filler question number {n} about thing {n * 7}?", f"It is {n}.") for n in range(80)])
    grams = {
        name: [gram_set(keys.key(row["messages"][0]["content"])) for row in made.rows[name]]
        for name in ("train", "validation", "test")
    }
    for name in ("validation", "test"):
        twins = sum(any(len(a & b) >= 0.7 * len(a | b) for b in grams["train"]) for a in grams[name])
        assert twins > 0
        assert made.facts.leaks[name]["near_twins_in_train"] == twins


@pytest.mark.parametrize("seed", range(20))
def test_random_corpora(tmp_path: Path, seed: int) -> None:
    """No split is empty; what is held back is in train only where a line says that ties were loosened."""
    draw = random.Random(seed)
    count, topics = draw.choice([3, 4, 7, 20, 60, 200]), draw.choice([2, 5, 40])
    questions = [" ".join(draw.sample(WORDS, draw.randint(1, 6))) for _ in range(topics)]
    replies = [" ".join(draw.choices(WORDS, k=draw.randint(1, 9))) for _ in range(topics)]
    items = []
    for n in range(count):
        turns = [draw.choice([draw.choice(questions), draw.choice(replies)]) for _ in range(draw.choice([0, 0, 2, 4]))]
        items.append(
            chat(*turns, f"{draw.choice(questions)} {n if draw.random() < 0.5 else ''}", f"{n} {draw.choice(replies)}")
        )
    fractions = [draw.choice([0.01, 0.1, 0.4]) for _ in range(2)]
    made = built(tmp_path / "a", items, validation_fraction=fractions[0], test_fraction=fractions[1])
    assert all(made.rows[name] for name in ("train", "validation", "test"))
    assert bool(leaks(made)) <= bool(made.facts.loosened)
    assert bool(leaks(made)) == any(n for counts in made.facts.leaks.values() for n in counts.values())
    total = sum(len(made.rows[name]) for name in ("train", "validation", "test"))
    for name, fraction in zip(("validation", "test"), fractions, strict=True):
        target = max(1, round(fraction * total))
        assert abs(len(made.rows[name]) - target) <= 0.1 * target or name in made.facts.shares
    again = built(tmp_path / "b", items, validation_fraction=fractions[0], test_fraction=fractions[1])
    assert list(again.sides().values()) == list(made.sides().values())


@pytest.mark.parametrize("exact_twins_bytes", [build.EXACT_TWINS_BYTES, 0])
def test_how_much_is_in_memory_at_once_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exact_twins_bytes: int
) -> None:
    monkeypatch.setattr(build, "EXACT_TWINS_BYTES", exact_twins_bytes)
    items = [{**each, "domain": "ab"[n % 2]} for n, each in enumerate(distinct(200))]
    items += [{**each, "question": f"{each['question']} Now"} for each in items[:40]]
    items += [chat(each["question"], each["answer"], f"And {n * 7919}?", f"It is {n}.") for n, each in enumerate(items)]
    items += [*items[:20], *({"text": f"{each['answer']} {each['question']}"} for each in items[:30])]
    settings: dict[str, Any] = {"caps": {"a": 60}, "weights": {"b": 2.5}}
    rehearsal = [*distinct(20, seed=1), *items[:5]]
    whole = built(tmp_path, items, rehearsal, **settings)
    monkeypatch.setattr(records, "CHUNK_ROWS", 50)
    monkeypatch.setattr(records, "RECORDS_AT_ONCE", 50)
    monkeypatch.setattr(splits, "GROUPS_AT_ONCE", 20)
    monkeypatch.setattr(outcome, "BATCH_BYTES", 300)
    in_parts = built(tmp_path, items, rehearsal, **settings)
    assert in_parts.rows == whole.rows
    assert in_parts.rejected == whole.rejected
    assert in_parts.figures == whole.figures
    assert len(whole.rejected) > 20
    assert len(whole.rows["rehearsal"]) == 20


def test_fewer_than_three_conversations_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="number of distinct conversations is 2; at least 3 are needed, one each for "):
        built(tmp_path, [*distinct(2), *distinct(2)])


def test_adding_conversations_moves_few(tmp_path: Path) -> None:
    before = built(tmp_path / "a", distinct(1000)).sides()
    after = built(tmp_path / "b", [*distinct(1000), *distinct(100, seed=1)]).sides()
    moved = sum(after[source.replace("/a/", "/b/")] != side for source, side in before.items())
    assert moved <= 20


def test_order_is_kept_within_a_split(tmp_path: Path) -> None:
    made = built(tmp_path, distinct(200))
    for rows in made.rows.values():
        numbers = [int(row["source"].rpartition("#")[2]) for row in rows]
        assert numbers == sorted(numbers)


def test_a_question_of_punctuation_alone_keeps_it() -> None:
    assert keys.key("???") == "???"
    assert keys.key("C++") == "c++"


def test_points_are_pinned() -> None:
    # Another hash would move the conversations of every user.
    assert keys.point("what is dns") == pytest.approx(0.384628, abs=1e-6)
    assert all(0 <= keys.point(str(number)) < 1 for number in range(1000))


def test_rehearsal_holds_nothing_that_the_data_asks(tmp_path: Path) -> None:
    data = distinct(60)
    made = built(tmp_path, data)
    held = made.rows["test"][0]["messages"][0]["content"]
    own = [
        pair("How are you today, my friend?", "Well."),
        pair("How  are you today, my friend", "well"),
        pair(data[0]["question"].upper(), "Something else."),
        pair(f"So, {held}", "A twin of what is held back."),
        chat("An unusual opening, is it not?", "It is.", data[1]["question"], "Another."),
        pair("And a walk?", "Later."),
    ]
    with_rehearsal = built(tmp_path, data, own)
    questions = [row["messages"][0]["content"] for row in with_rehearsal.rows["rehearsal"]]
    assert questions == ["How are you today, my friend?", "And a walk?"]
    assert with_rehearsal.sides() == made.sides()
    assert with_rehearsal.rejected == made.rejected == []


def test_caps_and_weights_by_domain_and_by_file(tmp_path: Path) -> None:
    items = [{**each, "domain": "ab"[n % 2]} for n, each in enumerate(distinct(400))]
    made = built(tmp_path, items, caps={"a": 50}, weights={"b": 2.5})
    kept = Counter(made.facts.domains)
    assert kept == {"a": 50, "b": 200}
    assert made.facts.over_cap == 150
    written = Counter(row["source"] for row in made.rows["train"] if row["domain"] == "b")
    assert set(written.values()) == {2, 3}
    assert sum(written.values()) == pytest.approx(2.5 * len(written), rel=0.15)
    assert max(Counter(row["source"] for split in ("validation", "test") for row in made.rows[split]).values()) == 1
    assert made.figures == built(tmp_path, items, caps={"a": 50}, weights={"b": 2.5}).figures
    thinned = built(tmp_path, items, weights={"items.jsonl": 0.5})
    assert len(thinned.rows["train"]) == pytest.approx(160, abs=30)
    assert built(tmp_path, items, caps={"c": 1}).facts.unknown_patterns == ["c"]


def test_a_cap_that_leaves_nothing_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.caps leaves no conversation; raise a cap"):
        built(tmp_path, distinct(10), caps={"items": 0})


def test_warnings_count_leaks_and_say_what_was_replaced(tmp_path: Path) -> None:
    items = [{"question": "Tell me a joke.", "answer": each["answer"]} for each in distinct(40)]
    items[0]["answer"] = "Write to ann@somewhere.org about it."
    said = "\n".join(warnings(built(tmp_path, items, redact=["emails"]).facts))
    assert "validation and test could only be filled by dividing conversations that share what more than" in said
    assert "train holds content of test: a question of 4, nearly the question of 4 of its conversations" in said
    assert "conversations hold emails in 1" in said
    assert "data.redact replaced emails" in said
