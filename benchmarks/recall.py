"""Count the questions of the train split that models/theta_final answers as trained, with and without repetition rules.

    python benchmarks/recall.py

Run it after `dvc repro`; it takes about two minutes on two cores. A reply counts as the trained answer if the chrF
(Popovic 2015) between the two is above 60; such replies differ in a word or a clause.
"""

from pathlib import Path

from theta import ThetaModel
from theta.conversation.messages import Conversation
from theta.evaluate.replies import Answered
from theta.files import read_json_lines

LIKE = 60
CASES = {
    "default settings": {},
    "without the repetition rules": {"repetition_penalty": 1.0, "no_repeat_ngram_size": 0},
}


def main() -> None:
    """Print a line for each case."""
    split = map(Conversation.from_json, read_json_lines(Path("Datasets/prepared/train.jsonl")))
    learned = [each for each in split if len(each.messages) == 2]
    questions = [each.messages[0].content for each in learned]
    model = ThetaModel.load("models/theta_final")
    for case, parameters in CASES.items():
        replies = model.generate_batch(questions, batch_size=64, seed=0, **parameters)
        answered = [Answered(*pair) for pair in zip(learned, replies, strict=True)]
        got = sum(each.chrf > LIKE for each in answered)
        exact = sum(each.reply.text == each.reference for each in answered)
        print(f"{case}: of {len(answered)} questions {got} get their answer, {exact} to the letter")


if __name__ == "__main__":
    main()
