"""Do what README.md and the pages of docs say: run the commands of their blocks, in the order in which they stand.

    python .ci/pages.py [PAGE ...]

The tutorial is followed in a fresh clone, as it stands. The other pages share a small project: the smallest new base,
ten conversations, a remote of git, and one of DVC. In blocks of `bash` and `console`, every line is a command (after
"$ "); a block of `python` is a program; a block with a title is that file, or settings for it. What one page has run, a
later one does not run again. `NOT_RUN` has what is not run at all.
"""

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from ruamel.yaml import YAML

from tests.support import project as projects
from tests.support.project import CONVERSATIONS, change, commit, git
from theta.project import queue

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.DOTALL | re.MULTILINE)

TUTORIAL = "docs/tutorial.md"
PAGES = (
    "README.md", "docs/going-out.md", "docs/experiments.md", "docs/readers.md", "docs/speaking.md", "docs/gpus.md",
    "docs/troubleshooting.md", "docs/reference/python.md", "CONTRIBUTING.md",
)  # fmt: skip
"""The pages that share the small project, in the order in which they run."""

SMALL: dict[str, dict[str, object]] = {
    "train": {"tokens_per_step": 512},
    "evaluate": {"answers": 2},
    "export": {"license": "mit"},
}
"""Settings of the project that the pages share, beside those of the projects in the tests: little to compute."""

NOT_RUN = {
    "pip install": "installs what runs this script; .ci/run begins with it",
    ". .venv/bin/activate": "concerns the terminal alone",
    "pytest": "a step of .ci/run",
    "bash tests/readers/install": "a step of .ci/run",
    "python -m tests.readers.table": "minutes, and it changes the pages; .ci/run runs the tests that it runs",
    "theta sweep": "minutes; tests/experiments runs one",
    "torchrun": "needs two machines; tests/train starts it on one",
    "ollama": "cannot be installed by pip; tests/readers renders its Modelfile and opens the model in llama.cpp",
    "llama-server": "cannot be installed by pip; tests/readers opens the model in llama.cpp",
    "vllm": "needs a GPU and a torch of its own",
    "text-generation-launcher": "cannot be installed by pip",
}
"""Commands that are not run: a part of their line, and the reason. tests/docs checks what arguments they have."""

TYPED = "Who are you?\n"
"""What every command finds in its standard input."""


@dataclass(frozen=True, slots=True)
class Step:
    """A command, a program or a file: the kind of its block, the title, and the text."""

    kind: str
    title: str
    text: str


@dataclass
class Project:
    """A clone in which pages are followed, and what stands for what is the reader's own."""

    folder: Path
    instead: dict[str, str] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)


def main() -> None:
    """Follow the pages, and stop with the first command that fails."""
    pages = sys.argv[1:] or [TUTORIAL, *PAGES]
    if not sys.argv[1:]:
        check_all_is_listed()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:  # a worker of DVC may still end in it
        if TUTORIAL in pages:
            git(Path(home), "clone", "--quiet", str(ROOT), "tutorial")
            project = Project(Path(home) / "tutorial")
            follow(TUTORIAL, project)
            assert (project.folder / "metrics/report.html").is_file()
        if shared := [page for page in PAGES if page in pages]:
            project = small_project(Path(home))
            for page in shared:
                follow(page, project)


def check_all_is_listed() -> None:
    """Check that every page with a command is followed, and that every line of `NOT_RUN` is needed."""
    written = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    found = {page.relative_to(ROOT).as_posix(): list(steps(page)) for page in written}
    unknown = {page for page, its in found.items() if its} ^ {TUTORIAL, *PAGES}
    lines = [step.text for its in found.values() for step in its]
    needless = [part for part in NOT_RUN if not any(part in line for line in lines)]
    if unknown or needless:
        sys.exit(f"{__file__}: PAGES lacks or has too many of {sorted(unknown)}; NOT_RUN has too many: {needless}.")


def steps(page: Path) -> Iterator[Step]:
    """Yield what a page tells its reader to run or to write."""
    for kind, title, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        if kind in ("bash", "console"):
            prompt = "$ " if kind == "console" else ""
            for line in text.splitlines():
                if line.startswith(prompt):
                    yield Step("bash", title, re.sub(r"\s+# .*", "", line.removeprefix(prompt)))
        elif kind == "python" or title:
            yield Step(kind, title, text)


def follow(page: str, project: Project) -> None:
    """Do what a page says, from a committed project on; servers that it starts run until its end."""
    if git(project.folder, "status", "--porcelain"):
        commit(project.folder, f"Before {page}")
    with ExitStack() as servers:
        for step in steps(ROOT / page):
            begun = time.monotonic()
            if step.text not in project.done and not any(part in step.text for part in NOT_RUN):
                print(f"\n-- {page}: {step.title or step.text.strip()}", flush=True)
                do(step, project, servers)
                print(f"-- {time.monotonic() - begun:.0f} s", flush=True)
                project.done.add(step.text)


def do(step: Step, project: Project, servers: ExitStack) -> None:
    """Run a command or a program, or write a file; a command that serves goes on."""
    text = step.text
    for theirs, ours in project.instead.items():
        text = text.replace(theirs, ours)
    if step.title.endswith(".yaml"):
        change(project.folder, YAML(typ="safe", pure=True).load(text))
    elif step.title:
        write(project.folder / step.title, text)
    elif "theta serve" in text:
        servers.close()  # one at a time, since all have the same port
        servers.enter_context(serving(text, project))
    else:
        command = ["bash", "-euo", "pipefail"] if step.kind == "bash" else [sys.executable]
        subprocess.run([*command, "-c", text], cwd=project.folder, input=TYPED, text=True, check=True)
        if text.startswith("dvc queue start"):
            await_queue(project.folder)


@contextmanager
def serving(command: str, project: Project) -> Iterator[None]:
    """Run a server from when it can be asked to the end of the context."""
    with subprocess.Popen(["bash", "-c", f"exec env {command}"], cwd=project.folder, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout
            assert b"Ctrl-C ends the server" in server.stdout.readline()
            yield
        finally:
            server.terminate()


def await_queue(folder: Path) -> None:
    """Wait until DVC's queue has run all experiments, and check that it could."""
    while set(states := queue.states(folder).values()) & set(queue.WAITING):
        time.sleep(queue.SECONDS_BETWEEN_LOOKS)
    assert set(states) == {"Success"}, states


def small_project(home: Path) -> Project:
    """Make the project that the pages share, and what they take to be there."""
    folder, shared = projects.make(home / "small"), home / "project.git"
    change(folder, SMALL)
    new = [{"question": f"{question} And now?", "answer": answer} for question, answer in CONVERSATIONS.items()]
    write(folder / "Datasets/new/new.json", json.dumps(new))
    write(folder / "question.txt", TYPED)
    subprocess.run(["dvc", "remote", "add", "--default", "storage", home / "storage"], cwd=folder, check=True)
    commit(folder, "What the pages take to be there")
    git(home, "init", "--quiet", "--bare", "--initial-branch", "main", str(shared))
    git(folder, "remote", "add", "origin", str(shared))
    git(folder, "push", "--quiet", "--set-upstream", "origin", "main")
    port = free_port()
    return Project(
        folder,
        {
            "dvc artifacts get": f"cd {home} && dvc artifacts get",
            "https://example.org/me/project": str(shared),
            "theta_enhanced_20261127": f"theta_enhanced_{date.today():%Y%m%d}",
            "127.0.0.1:8000": f"127.0.0.1:{port}",
            "theta serve": f"theta serve --port {port}",
        },
    )


def write(file: Path, text: str) -> None:
    """Write a file, and the folder that it is in."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def free_port() -> int:
    """Return a port that nothing listens at."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


if __name__ == "__main__":
    os.environ.pop("DVC_ROOT", None)
    main()
