"""Commands, settings and links of the documentation exist. `.ci/run` runs the commands and builds the site."""

import ast
import re
import runpy
import shlex
import textwrap
import tomllib
from collections.abc import Iterator
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer
from dvc.cli.parser import get_main_parser
from ruamel.yaml import YAML

from stages.__main__ import app as stages
from tests.support.imports import ROOT
from tests.support.reader_tables import PAGE, README, listed
from theta.cli.main import app
from theta.params import SECTIONS

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
HISTORY = ROOT / "docs" / "decisions.md"
"""Names settings and files as they were."""
UNTESTED = {
    "torchrun": "needs two machines",
    "pre-commit": "changes the clone's git hooks",
    **dict.fromkeys(["vllm", "text-generation-launcher", "ollama", "llama-server"], "other engines, not installed"),
    **dict.fromkeys([".", "cp", "git", "mkdir", "nohup", "ps", "rm", "sha256sum"], "of the system"),
    **dict.fromkeys(["ruff", "mypy", "mkdocs", "pytest", "bash"], "run by .ci/run"),
}
"""Programs whose arguments are not checked here, with the reason."""
BLOCK = re.compile(r"^ *```(\w*)[^\n]*\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`(theta [^`]+)`")


def blocks(page: Path, *kinds: str) -> Iterator[str]:
    return (content for kind, content in BLOCK.findall(page.read_text(encoding="utf-8")) if kind in kinds)


def commands(page: Path) -> Iterator[list[str]]:
    """Yield the words of each command in the blocks of a page, and of Theta in its text."""
    lines = [line for block in blocks(page, "bash") for line in block.splitlines()]
    for block in blocks(page, "console"):
        lines += [line[2:] for line in block.splitlines() if line.startswith("$ ")]
    if page != HISTORY:
        text = BLOCK.sub("", page.read_text(encoding="utf-8"))
        lines += [" ".join(found.split()) for found in INLINE.findall(text) if "..." not in found]
    for line in lines:
        yield from split(line)


def split(line: str) -> Iterator[list[str]]:
    """Yield the commands of a line of the shell, without their redirections and variables."""
    words = shlex.shlex(re.sub(r"\$\([^)]*\)", "X", line), posix=True, punctuation_chars="&|;<>")
    words.whitespace_split, words.commenters = True, "#"
    command: list[str] = []
    for word in [*words, "&&"]:
        if word in ("&&", "||", "|", ";"):
            if command:
                yield command
            command = []
        elif command or not re.match(r"\w+=", word):
            command.append(word)


def test_a_line_is_split_into_its_commands() -> None:
    line = "A=1 theta chat --seed 1 < q.txt && dvc repro   # both"
    assert list(split(line)) == [["theta", "chat", "--seed", "1", "<", "q.txt"], ["dvc", "repro"]]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_are_valid(page: Path) -> None:
    for program, *arguments in commands(page):
        words = arguments[: next((n for n, word in enumerate(arguments) if word in "<>"), None)]
        if program not in UNTESTED:
            CHECKS[program](words)


def check_theta(words: list[str], group: Any = None) -> None:
    """Parse options and arguments as the command does; capitals stand for a value."""
    group = group or typer.main.get_command(app)
    if not words or words[0].startswith("-"):
        command, arguments = group, words
    elif words[0].isupper():
        return
    else:
        command, arguments = group.commands[words[0]], words[1:]
    context = command.context_class(command, info_name="theta")
    command.make_parser(context).parse_args(args=list(arguments))


def check_dvc(words: list[str]) -> None:
    get_main_parser().parse_args(words)


def check_python(words: list[str]) -> None:
    if words[:2] == ["-m", "venv"]:
        return
    if words[:2] == ["-m", "stages"]:
        check_theta(words[2:], typer.main.get_command(stages))
        return
    if words[0] == "-m":
        words = [f"{words[1].replace('.', '/')}.py", *words[2:]]
    script = (ROOT / words[0]).read_text(encoding="utf-8")
    assert all(f'"{word}"' in script for word in words if word.startswith("--")), words


def check_pip(words: list[str]) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for name in re.findall(r"\.\[([\w,]+)\]", " ".join(words)):
        assert set(name.split(",")) <= set(extras), words
    assert all((ROOT / file).is_file() for option, file in pairwise(words) if option == "-c")


CHECKS = {
    "theta": check_theta, "dvc": check_dvc, "python": check_python, "python3": check_python, "pip": check_pip,
}  # fmt: skip


@pytest.mark.parametrize(
    "line",
    ["theta chat --sead 1", "theta tell me", "dvc repo", "dvc exp run --sett x=1", "pip install -e '.[serv]'",
     "python benchmarks/recal.py", "python benchmarks/train_cpu.py --second 1"],
)  # fmt: skip
def test_wrong_commands_are_found(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    [(program, *words)] = split(line)
    with pytest.raises((Exception, SystemExit)):
        CHECKS[program](words)


SETTING = re.compile(rf"`((?:{'|'.join(SECTIONS)})\.[a-z_]+)(?=[:`= ])")
FILES = (".bin", ".onnx", ".safetensors", ".gguf", ".json", ".jsonl", ".arrow", ".py", ".csv", ".yaml", ".md", ".tsv")


@pytest.mark.parametrize("page", [page for page in PAGES if page != HISTORY], ids=lambda page: page.name)
def test_settings_exist(page: Path) -> None:
    named = {name for name in SETTING.findall(page.read_text(encoding="utf-8")) if not name.endswith(FILES)}
    known = {f"{section}.{name}" for section, model in SECTIONS.items() for name in model.model_fields}
    assert named <= known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_examples_of_settings_and_of_python_are_valid(page: Path) -> None:
    for block in blocks(page, "yaml"):
        for section, values in YAML(typ="safe", pure=True).load(textwrap.dedent(block)).items():
            assert set(values) <= set(SECTIONS[section].model_fields), block
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("theta"):
                assert all(hasattr(import_module(str(node.module)), each.name) for each in node.names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", BLOCK.sub("", page.read_text("utf-8"))):
        if "://" in target:
            continue
        file = (page.parent / target) if target else page
        assert file.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(file), f"{page.name}: {target}#{anchor}"


def anchors(page: Path) -> set[str]:
    """The anchors of the headings of a page, as GitHub and mkdocs make them."""
    headings = re.findall(r"^#+ (.+)$", BLOCK.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_commands_of_every_page_are_run_or_listed_with_a_reason() -> None:
    runpy.run_path(str(ROOT / ".ci/pages.py"))["check_all_is_listed"]()


def test_the_readme_has_the_readers_of_the_full_table() -> None:
    assert listed(README) == listed(PAGE)
    assert len(listed(PAGE)) > 10


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) < 900


def test_the_readme_installs_and_tests_as_the_checks_do() -> None:
    readme, checks = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", ".ci/run"))
    for words in ("python3 -m venv .venv", ". .venv/bin/activate", "dvc repro"):
        assert words in readme
        assert words in checks
    assert "pip install -e ." in readme
    assert "pip install --quiet -e ." in checks
