"""The starter's pipeline is Theta's with stages before and after it, and its files match it."""

import ast
from pathlib import Path
from typing import Any

import pytest

from recipes.starter import corpus, figures, shipped
from recipes.starter.extract import Conversation, Extract
from recipes.starter.sources import Sources, read
from recipes.starter.table import table
from recipes.starter.wording import Exchange
from tests.support.imports import ROOT, closure, missing, superfluous
from theta import settings
from theta.errors import SettingsError
from theta.files import write_text
from theta.params import load_whole
from theta.settings import load
from theta.tokens.vocabulary import Vocabulary

STARTER = ROOT / "recipes" / "starter"
PIPELINE = settings.read(STARTER / "dvc.yaml")["stages"]
THETA = settings.read(ROOT / "dvc.yaml")["stages"]


def code(deps: list[str]) -> list[str]:
    """The deps that are code, as paths from the root."""
    linked = [dep.removeprefix("linked/") for dep in deps if dep.startswith("linked/")]
    return linked + [(STARTER / dep).relative_to(ROOT).as_posix() for dep in deps if "/" not in dep and ".py" in dep]


@pytest.mark.parametrize("stage", [stage for stage in THETA if stage != "report"])  # what reads the starter's figures
def test_thetas_stages_are_those_of_the_root(stage: str) -> None:
    assert PIPELINE[stage]["cmd"] == f"PYTHONPATH=../.. {THETA[stage]['cmd']}"
    deps = [dep.removeprefix("linked/") for dep in PIPELINE[stage].get("deps", [])]
    if stage == "fetch":  # which describes the data, so the stages that make it come first
        assert deps.pop() == "${data.path}"
    assert deps == THETA[stage].get("deps", [])
    assert {**PIPELINE[stage], "cmd": "", "deps": []} == {**THETA[stage], "cmd": "", "deps": []}


def test_the_links_lead_to_the_code() -> None:
    """DVC ignores byte code only inside its project, so the deps reach folders of code through links."""
    assert (STARTER / "linked/theta").resolve() == ROOT / "theta"
    assert (STARTER / "linked/stages").resolve() == ROOT / "stages"
    outside = [dep for entry in PIPELINE.values() for dep in entry.get("deps", []) if dep.startswith("../")]
    assert set(outside) == {"../../Datasets/conversations"}


SINCE_THE_RUN = {
    "Datasets/prepared/new_wordings.jsonl", "Datasets/prepared/train.jsonl", "Datasets/tokens/test.arrow",
    "metrics/summary.json", "models/base/data.json", "models/base/rehearsal.json", "models/exports",
}  # fmt: skip
"""What stages depend on or write now, and did not when the starter was made."""


def test_the_lock_records_every_stage_as_it_is_declared() -> None:
    recorded = settings.read(STARTER / "dvc.lock")["stages"]
    data = load_whole(STARTER / "params.yaml").data.path
    assert set(recorded) == set(PIPELINE)
    for stage, entry in PIPELINE.items():
        # Code has been divided otherwise since, so `dvc status` shows it as changed, which is true.
        deps = {dep.replace("${data.path}", data) for dep in entry.get("deps", []) if not dep.startswith("linked/")}
        kept = {dep["path"] for dep in recorded[stage].get("deps", []) if not dep["path"].startswith("linked/")}
        assert kept - SINCE_THE_RUN == deps - SINCE_THE_RUN, stage
        written = {out["path"] for out in recorded[stage]["outs"]}
        assert written - SINCE_THE_RUN == {*outs(entry)} - SINCE_THE_RUN, stage
        assert recorded[stage]["cmd"] == entry["cmd"] or stage == "model", stage  # its files are more since the run


def outs(entry: dict[str, Any]) -> list[str]:
    items = [*entry.get("outs", []), *entry.get("metrics", []), *entry.get("plots", [])]
    return [item if isinstance(item, str) else next(iter(item)) for item in items]


OWN = {
    "packages": {"packages", "sources"},
    "corpus": {"corpus", "figures", "shipped", "sources"},
    "answers": {"answers", "asking", "figures", "packages", "shipped", "sources", "teacher"},
    "rehearsal": {"asking", "rehearsal"},
}
"""The starter's own stages, and the modules that each one's command calls."""


@pytest.mark.parametrize("stage", OWN)
def test_code_deps_of_the_other_stages_are_what_they_import(stage: str) -> None:
    needed = {path.relative_to(ROOT).as_posix() for name in OWN[stage] for path in closure(STARTER / f"{name}.py")}
    if "theta/tokens/vocabulary.py" in needed:
        needed |= {f"theta/tokens/gpt2/{name}" for name in ("vocab.json", "merges.txt")}
    listed = code(PIPELINE[stage]["deps"])
    assert (missing(listed, needed), superfluous(listed, needed)) == ([], [])
    assert PIPELINE[stage]["cmd"] == f"PYTHONPATH=../.. python -m recipes.starter {stage}"


@pytest.mark.parametrize("stage", OWN)
def test_commands_call_no_other_modules(stage: str) -> None:
    """`__main__.py` itself is not a dep, because a command only passes the result of one module to the next."""
    tree = ast.parse((STARTER / "__main__.py").read_text())
    [command] = (
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and f"app.command('{stage}')" in map(ast.unparse, node.decorator_list)
    )
    names = {node.id for node in ast.walk(command) if isinstance(node, ast.Name)}
    modules = {path.stem for path in STARTER.glob("*.py")} - {"table"}
    assert (names & modules) | ({"sources"} if "read" in names else set()) == OWN[stage]


def test_settings_and_sources_are_valid() -> None:
    settings = load_whole(STARTER / "params.yaml")
    assert (settings.model.base, settings.tokenizer.max_length) == ("scratch:starter", 512)
    names = [package.name for package in read(STARTER / "sources.yaml").all]
    assert len(names) == len(set(names))
    readme = (STARTER / "README.md").read_text()
    assert [name for name in names if f"| {name} |" not in readme] == []


def test_a_wrong_source_is_named(tmp_path: Path) -> None:
    write_text(tmp_path / "sources.yaml", "sources:\n  packages:\n    - {package: a, registry: npm}\n")
    with pytest.raises(SettingsError, match=r"sources\.yaml: sources\.packages\.0 is "):
        read(tmp_path / "sources.yaml")


PARAGRAPH = "A join reads the rows of two tables and returns those that belong together, as a condition says. " * 3


def talk(question: str, answer: str, kind: str = "faq", word: str = "") -> Conversation:
    return Conversation(kind, [Exchange(question, answer)], word)


def test_texts_are_new_and_long_enough() -> None:
    earlier = corpus.Earlier()
    pages = [[PARAGRAPH.strip(), "Too short to stand alone."], [PARAGRAPH.upper().strip()]]
    assert corpus.texts(Extract(pages=pages), earlier) == [
        {"domain": "prose", "text": f"{PARAGRAPH.strip()}\nToo short to stand alone."}
    ]


def test_conversations_are_new_and_not_shipped() -> None:
    talks = [
        talk("What is DNS?", "It is shipped."),
        talk("What is a join?", "It reads two tables."),
        talk("what is a join", "Another answer to the same question."),
        talk("What does a join do?", "It reads two tables."),
        talk("What is an abbey?", "A convent.", "definitions", "abbey"),
        talk("What is a zyzzyva?", "A weevil.", "definitions", "zyzzyva"),
        Conversation("smalltalk", [Exchange("Hello.", "Hi."), Exchange("Bye.", "Bye.")]),
    ]
    found = corpus.conversations(
        Extract(conversations=talks), corpus.Earlier(), frozenset(["what is dns"]), {"abbey": corpus.MIN_USES}
    )
    assert found == [
        {"domain": "faq", "question": "What is a join?", "answer": "It reads two tables."},
        {"domain": "definitions", "question": "What is an abbey?", "answer": "A convent."},
        {
            "domain": "smalltalk",
            "exchanges": [{"question": "Hello.", "answer": "Hi."}, {"question": "Bye.", "answer": "Bye."}],
        },
    ]


def test_shipped_questions_of_any_shape_are_found() -> None:
    assert "what does /24 mean after an address" in shipped.questions(ROOT / "Datasets/conversations")


def test_figures_and_their_table(vocabulary: Vocabulary) -> None:
    source = load(STARTER / "sources.yaml", "sources", Sources)
    first, teacher = source.packages[0], source.teacher
    items: list[dict[str, Any]] = [
        {"domain": "prose", "text": "Hello world"},
        {"domain": "faq", "question": "Hello", "answer": "world"},
        {"domain": "faq", "exchanges": [{"question": "Hello", "answer": "Hello"}]},
    ]
    found = figures.of_source(first, items, vocabulary)
    assert (found["texts"], found["text_tokens"]) == (1, 2)
    assert (found["conversations"], found["conversation_tokens"]) == (2, 4)
    talks = [{"domain": "linux", "messages": [{"role": "user", "content": "Hello"}]}]
    by_source = {first.name: found, teacher.name: figures.of_source(teacher, talks, vocabulary)}
    total = figures.total(by_source)
    assert total["permissive"]["text_tokens"] == total["all"]["text_tokens"] == 2
    assert total["all"]["conversations"] == 3
    assert total["copyleft"]["conversations"] == 0
    versions = {name: {"version": "1"} for name in by_source}
    printed = table([teacher, first], versions, by_source).splitlines()
    assert printed[2] == f"| {first.name} | 1 | {first.licence} | 0.00 | 2 | 2 | 4 |"
    assert printed[3] == f"| {teacher.name} | 1 | {teacher.licence} | 0.00 | 0 | 1 | 1 |"
    assert printed[-1] == "| **all** |  |  | 0.00 | 2 | 3 | 5 |"
