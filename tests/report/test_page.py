import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from ruamel.yaml import YAML

from stages.report import report
from tests.support.imports import ROOT
from theta import settings
from theta.errors import DataError
from theta.report import page

Render = Callable[..., str]


def test_the_defaults_are_the_shipped_settings() -> None:
    shipped = (ROOT / "params.yaml").read_bytes()
    assert (ROOT / "theta/report/defaults.yaml").read_bytes() == shipped, "cp params.yaml theta/report/defaults.yaml"
    assert page.defaults() == settings.read(ROOT / "params.yaml")


def test_the_page_is_the_same_twice_and_asks_nothing_of_another_host(render: Render) -> None:
    first = render()
    assert render() == first
    assert set(re.findall(r'(?:src|href|action|url)\s*[=(]\s*"?([^"\s>]*)', first)) == {
        "#training", "#domains", "#data", "#replies", "#settings", "#provenance",
    }  # fmt: skip
    assert "default-src 'none'" in first
    assert "<link" not in first


def test_charts_are_those_of_the_images(render: Render) -> None:
    drawings = re.findall(r"<svg.*?</svg>", render(), re.DOTALL)
    titles = [ElementTree.fromstring(each).findtext("{http://www.w3.org/2000/svg}title") for each in drawings]
    assert titles == [
        "Loss while training",
        "Length of documents",
        "Answers given",
        "Held-out loss by domain, nats per token",
    ]


def test_answers_come_first_where_they_were_measured(render: Render, answers: dict[str, Any]) -> None:
    shown = headlines(render({"evaluate.json": {"answers": answers}}))
    assert shown[0] == ("Trained questions answered", "90.5%", "181 of 200; 150 to the letter")
    assert shown[1][0] == "Held-out loss", "nothing is shown of new wordings, which were not asked"
    both = render({"evaluate.json": {"answers": {**answers, "new_wordings": answers["trained"]}}})
    assert headlines(both)[1][0] == "The same in new wordings"
    assert "Answers given" in both


def test_nothing_is_said_of_what_was_not_measured(render: Render) -> None:
    train = {"rehearsal_loss": None, "rehearsal_tokens": 0}
    path = render({"evaluate.json": {"answers": None, "replies": {"replies": 0}}, "train.json": train})
    assert [label for label, _, _ in headlines(path)] == ["Held-out loss"]
    assert "answer counts as given" not in path
    assert "Against forgetting" not in path


def test_without_held_back_conversations_there_is_no_loss_of_them(render: Render) -> None:
    nothing = {"test": None, "base": None, "difference": None, "domains": {}, "replies": {"replies": 0}}
    render({"evaluate.json": nothing})
    Path("metrics/curves/plots/metrics/validation/loss.tsv").write_text("step\tloss\n")
    report()
    shown = Path("metrics/report.html").read_text()
    assert "Held-out loss" not in shown
    assert "Nothing was held back for a test" in shown


def test_the_summary_holds_what_was_measured_and_fits_a_terminal(render: Render, answers: dict[str, Any]) -> None:
    render({"evaluate.json": {"answers": {**answers, "new_wordings": answers["trained"]}}})
    summary = json.loads(Path("metrics/summary.json").read_text())
    assert set(summary) == {"answered", "new_wordings", "test_loss", "base_loss", "chrf"}
    assert summary["answered"] == 0.905
    # DVC prints the path and a column for each figure, four spaces apart.
    columns = [max(len(name), len(str(value))) for name, value in summary.items()]
    assert len("metrics/summary.json") + sum(4 + width for width in columns) <= 100
    render({"evaluate.json": {"answers": None, "test": None, "base": None, "domains": {}, "replies": {"replies": 0}}})
    assert json.loads(Path("metrics/summary.json").read_text()) == {}


def test_held_out_loss_is_explained_where_it_is_shown(render: Render) -> None:
    losses = {"base": {"loss_nats_per_token": 4.5}, "test": {"loss_nats_per_token": 5.0}}
    text = re.sub(r"\s+", " ", render({"evaluate.json": losses, "train.json": {"train_loss": 0.0138}}))
    assert "a nat is 1.44 bits" in text
    assert "This set was learned by heart: the loss of the trained replies fell to 0.01" in text
    for loss in ({"train_loss": 4.0}, {"train_loss": None}):
        assert "This set was learned by heart" not in render({"evaluate.json": losses, "train.json": loss})
    lower = {**losses, "test": {"loss_nats_per_token": 4.0}}
    assert "This set was learned by heart" not in render({"evaluate.json": lower, "train.json": {"train_loss": 0.1}})


def test_what_was_dropped_is_named(render: Render) -> None:
    shown = render({
        "prepare.json": {"rejected_by_reason": {"unknown_role": 3}, "duplicates": 4, "mended": {"empty reply": 2}},
        "tokenize.json": {"train": {"exchanges_dropped": 1, "replies_cut": 5}},
    })  # fmt: skip
    rows = dict(re.findall(r'<th scope="row">([^<]+)</th><td>([^<]+)</td></tr>', shown))
    assert rows["rejected: unknown_role"] == "3"
    assert rows["conversations that repeat another"] == "4"
    assert rows["mended: empty reply"] == "2"
    assert rows["replies cut at tokenizer.max_length"] == "5"
    assert "Nothing was dropped" not in shown
    assert "&lt;b&gt;question&lt;/b&gt;" in shown, "the data's report is shown, and no HTML of the data"


def test_changed_settings_are_shown_with_their_defaults(render: Render) -> None:
    text = (ROOT / "theta/report/defaults.yaml").read_text()
    assert "All settings are the defaults" in render(params=text)
    changed = re.sub(r"(?m)^  temperature: .*$", "  temperature: 0.5", text)
    shown = render(params=re.sub(r"(?m)^  device: .*$", "  device: cpu", changed))
    assert '<tr><th scope="row">generation.temperature</th><td>0.5</td><td>0.8</td></tr>' in shown
    assert "machine.device" not in shown


def test_replies_are_in_groups_and_new_wordings_come_first(render: Render) -> None:
    shown = render()
    assert re.findall(r'<details class="group"( open)?><summary>(.*?)</summary>', shown) == [
        (" open", "Trained questions in new wordings: 2"),
        ("", "Trained questions: 1"),
        ("", "Questions of the test split, which training never saw: 3"),
    ]
    assert shown.count("<article") == 6
    assert shown.count(" data-wrong>") == 4
    assert shown.count("<dt>reference</dt>") == 4
    assert shown.count("to the letter, numbers") == 2


def test_texts_of_replies_are_text(render: Render, tmp_path: Path) -> None:
    render()
    replies = tmp_path / "metrics/replies.yaml"
    yaml = YAML(typ="safe", pure=True)
    entries = yaml.load(replies.read_text())[:2]
    entries[0]["reply"] = "<script>alert(1)</script> & {{ facts }}"
    entries[0]["messages"] = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"},
                              {"role": "user", "content": "And?"}]  # fmt: skip
    with replies.open("w") as out:
        yaml.dump(entries, out)
    report()
    shown = Path("metrics/report.html").read_text()
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; {{ facts }}" in shown
    assert shown.count("<article") == 2
    assert "<h3>And?</h3>" in shown
    assert "<dt>assistant</dt><dd>Ho</dd>" in shown


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metrics/train.json", None, r"metrics/train\.json does not exist; run `dvc repro` to create it"),
        ("metrics/train.json", "{}", r"is not what its stage writes \(\w+: .*\); run `dvc repro`"),
        ("metrics/replies.yaml", "a: [", r"metrics/replies\.yaml is not valid YAML"),
        ("Datasets/prepared/report.md", None, r"report\.md does not exist"),
    ],
)
def test_a_wrong_file_is_one_line(render: Render, name: str, content: str | None, message: str) -> None:
    render()
    before = Path("metrics/report.html").read_bytes()
    Path(name).unlink()
    if content is not None:
        Path(name).write_text(content)
    with pytest.raises(DataError, match=message) as raised:
        report()
    assert "\n" not in str(raised.value)
    assert Path("metrics/report.html").read_bytes() == before


def headlines(html: str) -> list[tuple[str, ...]]:
    return re.findall(r'<div><dt>(.*?)</dt><dd class="value">(.*?)</dd><dd class="note">(.*?)</dd></div>', html)
