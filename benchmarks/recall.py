"""How many questions of the train split get their answer from models/theta_final: as set, and without repetition rules.

    python benchmarks/recall.py

After `dvc repro`, about two minutes on two cores. An answer counts as got if chrF (Popovic 2015) between it and the one
that was learned is above 60; such replies differ in a word or a clause.
"""

from pathlib import Path

from sacrebleu.metrics import CHRF

from theta import ThetaModel, files

LIKE = 60
CASES = {
    "default settings": {},
    "without the repetition rules": {"repetition_penalty": 1.0, "no_repeat_ngram_size": 0},
}


def main() -> None:
    """Print a line for each case."""
    rows = files.read_json_lines(Path("Datasets/prepared/train.jsonl"))
    talks = [[message["content"] for message in row["messages"]] for row in rows if len(row["messages"]) == 2]
    questions, answers = zip(*talks, strict=True)
    model = ThetaModel.load("models/theta_final")
    for case, parameters in CASES.items():
        replies = [reply.text for reply in model.generate_batch(questions, batch_size=64, seed=0, **parameters)]
        pairs = list(zip(replies, answers, strict=True))
        got = sum(CHRF().sentence_score(reply, [answer]).score > LIKE for reply, answer in pairs)
        exact = sum(reply == answer for reply, answer in pairs)
        print(f"{case}: of {len(pairs)} questions {got} get their answer, {exact} to the letter")


if __name__ == "__main__":
    main()
