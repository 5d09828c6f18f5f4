import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stages.evaluate import evaluate
from tests.support.imports import ROOT
from tests.support.tiny import save_project, save_tokens
from theta.conversation.messages import Conversation, Message
from theta.errors import DataError
from theta.evaluate.report import summary
from theta.files import write_json_lines, write_text
from theta.tokens.store import write
from theta.tokens.vocabulary import Vocabulary

pytestmark = pytest.mark.slow

OUTS = (
    "metrics/evaluate.json",
    "metrics/replies.yaml",
    "metrics/plots/domains.csv",
    "metrics/images/loss.svg",
    "metrics/images/domains.svg",
    "metrics/images/lengths.svg",
)


def test_the_stage_writes_the_same_bytes_twice(
    tmp_path: Path, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_project(tmp_path, vocabulary)
    monkeypatch.chdir(tmp_path)
    evaluate()
    first = {name: Path(name).read_bytes() for name in OUTS}
    evaluate()
    assert {name: Path(name).read_bytes() for name in OUTS} == first

    figures = json.loads(first["metrics/evaluate.json"])
    assert sorted(figures) == ["answers", "base", "difference", "domains", "replies", "test"]
    assert figures["answers"]["trained"]["questions"] == 5
    assert figures["answers"]["new_wordings"] == {"questions": 1, "right": 0, "share": 0, "verbatim": 0}
    assert list(figures["answers"]["domains"]) == ["linux", "networking", "smalltalk"]
    assert figures["test"]["documents"] == figures["base"]["documents"] == 5
    assert figures["test"]["loss_nats_per_token"] == pytest.approx(10.8, abs=0.8)  # random weights: about ln 50,262
    assert figures["base"]["loss_nats_per_token"] != figures["test"]["loss_nats_per_token"]
    assert figures["replies"]["replies"] == first["metrics/replies.yaml"].count(b"- kind: test\n") == 4
    assert first["metrics/replies.yaml"].count(b"- kind: trained\n") == 5
    assert first["metrics/replies.yaml"].count(b"- kind: new wording\n") == 1
    out = capsys.readouterr().out
    assert "measuring 5 test documents" in out
    assert "4 held-out replies: chrF" in out


def test_sums_have_one_order_from_the_first_product_on(tmp_path: Path) -> None:
    """Otherwise a busy machine, where replies are computed with fewer threads, would change their bits."""
    code = (
        "import os, sys\n"
        "from stages.evaluate import evaluate\n"
        "try: evaluate()\n"
        "except Exception as fault: print(type(fault).__name__, 'torch' in sys.modules, os.environ['MKL_CBWR'])\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "MKL_CBWR"} | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "SettingsError False AUTO,STRICT\n"


def test_the_summary_begins_with_answers_given_and_explains_a_higher_loss() -> None:
    counts = {"questions": 200, "right": 181, "share": 0.905, "verbatim": 150}
    losses = {"base": {"loss_nats_per_token": 4.5}, "test": {"loss_nats_per_token": 5.0}}
    replies = {"replies": 4, "chrf": 23.4, "ended_rate": 1.0}
    results = {**losses, "replies": replies, "answers": {"trained": counts, "new_wordings": None}}
    assert summary(results).splitlines() == [
        "answers given: 181 of 200 trained questions (90.5%), 150 to the letter",
        "held-out loss, of replies that training never saw: 4.500 nats per token before, 5.000 after; it rises when a "
        "set is learned by heart",
        "4 held-out replies: chrF 23.4 of 100, 100% ended by themselves",
    ]
    ruled_out = {"trained": counts, "ruled_out": {"answers": 51, "no_repeat_ngram_size": 3}}
    said = summary({**results, "answers": ruled_out})
    assert "51 of these trained answers have a sequence of 3 tokens twice" in said
    lower = {**losses, "test": {"loss_nats_per_token": 4.0}, "replies": {"replies": 0}}
    assert "by heart" not in summary(lower)
    assert "answers given" not in summary(lower)
    assert summary({"base": None, "test": None, "replies": {"replies": 0}}).startswith("nothing was held back")


def test_plain_texts_are_measured_and_get_no_reply(
    tmp_path: Path, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_project(tmp_path, vocabulary)
    monkeypatch.chdir(tmp_path)
    texts = tuple(
        Conversation((Message("text", f"Chapter {number}. It rains."),), "books", f"books.json#{number}")
        for number in range(3)
    )
    save_tokens(Path("Datasets/tokens/test.arrow"), texts, vocabulary)
    for name in ("train", "test", "new_wordings"):
        rows = [] if name == "new_wordings" else [each.to_json() for each in texts]
        write_json_lines(Path(f"Datasets/prepared/{name}.jsonl"), rows)
    evaluate()
    figures = json.loads(Path("metrics/evaluate.json").read_text())
    assert figures["test"]["documents"] == 3
    assert figures["replies"] == {"replies": 0}
    assert figures["answers"] is None
    assert Path("metrics/replies.yaml").read_text().endswith("\n[]\n")
    assert "no held-out replies, because the test split holds only plain texts" in capsys.readouterr().out


def test_nothing_need_be_held_back(
    tmp_path: Path, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_project(tmp_path, vocabulary)
    monkeypatch.chdir(tmp_path)
    write(Path("Datasets/tokens/test.arrow"), [])
    write_json_lines(Path("Datasets/prepared/test.jsonl"), [])
    write_text(Path("metrics/curves/plots/metrics/validation/loss.tsv"), "step\tloss\n")
    evaluate()
    figures = json.loads(Path("metrics/evaluate.json").read_text())
    assert figures.pop("answers")["trained"]["questions"] == 5
    assert figures == {"test": None, "base": None, "difference": None, "domains": {}, "replies": {"replies": 0}}
    assert all(Path(name).is_file() for name in OUTS)
    assert "nothing was held back for a test (data.test_fraction is 0)" in capsys.readouterr().out


def test_a_missing_checkpoint_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import json

    from tests.support.tiny import PARAMS

    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(json.dumps(PARAMS))
    with pytest.raises(DataError, match="models/checkpoint does not exist; run `dvc repro train` to create it"):
        evaluate()
