"""How often models/theta_final gives its trained answers, to questions in words that nobody trained on.

    python benchmarks/answers.py [--model models/theta_final] [--replies]

benchmarks/answers/ holds questions that people wrote for this measurement:

    new_wordings.jsonl   questions of Datasets/conversations in other words; none of them is in the data
    small_talk.txt       greetings, thanks, farewells and "who are you" in many spellings, the usual of which are in the
                         data too
    chat.jsonl           a chat of 20 turns on trained topics

A reply is right if its chrF (Popovic 2015) against the trained answer is above 60; such replies differ in a word or a
clause. Only questions whose conversation is in the train split are counted. --replies prints every reply.
"""

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from theta import ThetaModel
from theta.conversation.messages import Conversation, Message
from theta.evaluate.replies import Answered
from theta.files import read_json_lines
from theta.generate.assistant import Reply
from theta.generate.prompt import Prompt

QUESTIONS = Path(__file__).with_suffix("")

BATCH = 128
"""Replies that are written side by side."""
SEEDS = 3
"""Replies are sampled, so each figure is the mean of as many runs."""
CASES: Mapping[str, dict[str, Any]] = {
    "default settings": {},
    "temperature 0.1": {"temperature": 0.1},
    "without the repetition rules": {"repetition_penalty": 1.0, "no_repeat_ngram_size": 0},
}


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="models/theta_final")
    parser.add_argument("--train", type=Path, default=Path("Datasets/prepared/train.jsonl"))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--replies", action="store_true", help="print every reply")
    arguments = parser.parse_args()
    trained = _trained(arguments.train)
    model = ThetaModel.load(arguments.model, arguments.device)
    exact = [(each.messages[:-1], each) for each in trained.values()]
    new = [
        ((*trained[row["question"]].messages[:-2], Message("user", row["asked"])), trained[row["question"]])
        for row in _rows("new_wordings.jsonl")
        if row["question"] in trained
    ]
    for case, parameters in CASES.items():
        for name, asked in (("trained questions", exact), ("new wordings", new)):
            count = right(model, asked, SEEDS, batch_size=BATCH, **parameters)
            print(f"{case}, {name}: {count:.0f} of {len(asked)} right ({count / len(asked):.1%})", flush=True)
    if arguments.replies:
        _print(new, answered(model, new, batch_size=BATCH, seed=0))
        _small_talk(model)
    _chat(model, trained, show=arguments.replies)


def _rows(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (QUESTIONS / name).read_text().splitlines()]


def _trained(path: Path) -> dict[str, Conversation]:
    """The first exchange of each conversation of train, with its system message, by its question."""
    found = {}
    for each in read_json_lines(path, Conversation.from_json):
        if not each.is_text:
            messages = each.messages[: 2 + (each.messages[0].role == "system")]
            found[each.opening] = Conversation(messages, each.domain, each.source)
    return found


def right(model: ThetaModel, asked: Iterable[tuple[Prompt, Conversation]], seeds: int = 1, **options: Any) -> float:
    """Return how many replies are right, as a mean over the seeds.

    Args:
        asked: prompts, each with the conversation whose last message is the trained answer.
        options: those of `ThetaModel.generate_batch`.
    """
    pairs = list(asked)
    runs = [answered(model, pairs, seed=seed * 1_000_000, **options) for seed in range(seeds)]
    return sum(each.is_right for run in runs for each in run) / seeds


def answered(model: ThetaModel, asked: Sequence[tuple[Prompt, Conversation]], **options: Any) -> list[Answered]:
    """Return the replies, each with the conversation that it is compared with; the arguments are those of `right`."""
    replies = model.generate_batch([prompt for prompt, _ in asked], **options)
    return [Answered(conversation, reply) for (_, conversation), reply in zip(asked, replies, strict=True)]


def _print(asked: Sequence[tuple[Sequence[Message], Conversation]], answers: Sequence[Answered]) -> None:
    for (messages, _), each in zip(asked, answers, strict=True):
        mark = "right" if each.is_right else "wrong"
        print(f"\n{mark} ({each.chrf:.0f}): {messages[-1].content}\n  {each.reply.text}")


def _small_talk(model: ThetaModel) -> None:
    lines = (QUESTIONS / "small_talk.txt").read_text().splitlines()
    for line, reply in zip(lines, model.generate_batch(lines, seed=0), strict=True):
        print(f"\n{line}\n  {reply.text}")


def _chat(model: ThetaModel, trained: Mapping[str, Conversation], *, show: bool) -> None:
    """Let the model go through the chat; count the right answers in its halves."""
    session = model.session()
    halves = {"first": [0, 0], "second": [0, 0]}
    for turn, row in enumerate(_rows("chat.jsonl")):
        reply = session.ask(row["asked"], seed=turn)
        note = ""
        if conversation := trained.get(row.get("question", "")):
            is_right = Answered(conversation, Reply(reply, 0, ended=True)).is_right
            counts = halves["first" if turn < 10 else "second"]
            counts[0] += is_right
            counts[1] += 1
            note = "right" if is_right else "wrong"
        if show:
            print(f"\n{turn + 1} {note}: {row['asked']}\n  {reply}")
    (one, of_one), (two, of_two) = halves.values()
    print(f"chat: {one} of {of_one} trained questions right in turns 1 to 10, {two} of {of_two} in turns 11 to 20")


if __name__ == "__main__":
    main()
