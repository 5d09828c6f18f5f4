"""The choice of conversations that ship with the starter for later fine-tuning."""

import random
from typing import Any

from recipes.starter import rehearsal
from theta.corpus import keys


def row(question: str, domain: str = "linux", *before: str) -> dict[str, Any]:
    pairs = [*(("system", text) for text in before), ("user", question), ("assistant", "Yes."), ("user", "Why?")]
    messages = [{"role": role, "content": content} for role, content in [*pairs, ("assistant", "It is so.")]]
    return {"domain": domain, "source": "a.jsonl#1", "messages": messages}


ROWS = [row(f"Is it {number}?", "linux" if number % 2 else "faq") for number in range(100)]


def questions(rows: list[dict[str, Any]]) -> list[str]:
    return [next(each["content"] for each in row["messages"] if each["role"] == "user") for row in rows]


def test_conversations_of_the_domains_are_chosen_by_their_hashes() -> None:
    chosen = rehearsal.choose(ROWS, {"linux"}, 10)
    ordered = sorted(questions(ROWS[1::2]), key=lambda question: keys.point(f"{question}\nYes.\nWhy?\nIt is so."))
    assert questions(chosen) == ordered[:10]
    assert {each["domain"] for each in chosen} == {"linux"}
    assert chosen[0] == {name: value for name, value in chosen[0].items() if name in ("domain", "messages")}


def test_the_choice_is_stable() -> None:
    chosen = rehearsal.choose(ROWS, {"linux", "faq"}, 20)
    shuffled = random.Random(0).sample(ROWS, len(ROWS))
    assert rehearsal.choose(shuffled, {"linux", "faq"}, 20) == chosen
    fewer = rehearsal.choose([each for each in ROWS if each["messages"] != chosen[0]["messages"]], {"linux", "faq"}, 19)
    assert fewer == chosen[1:]


def test_answers_to_one_question_are_chosen_apart() -> None:
    rows = [row("Is it?", "linux", f"Be brief, {number}.") for number in range(20)]
    chosen = rehearsal.choose([*rows, *ROWS], {"linux"}, 20)
    assert 0 < questions(chosen).count("Is it?") < 20


def test_few_rows_are_all_taken() -> None:
    assert questions(rehearsal.choose([row("Is it?", "linux", "Be brief.")], {"linux"})) == ["Is it?"]
    assert rehearsal.choose(ROWS, {"git"}) == []
