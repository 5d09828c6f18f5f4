"""Other programs that open an export, each in a process of its own, and what is compared with Theta's model.

The scripts in tests/readers/scripts import nothing of Theta, so they run in environments that do not have it.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import GPT2LMHeadModel

from tests.support.imports import ROOT
from theta.conversation.messages import Message
from theta.conversation.template import render_prompt
from theta.export.verification import PROMPTS
from theta.tokens.vocabulary import Vocabulary

SCRIPTS = ROOT / "tests/readers/scripts"
HOME = Path(os.environ.get("THETA_READERS", ROOT / ".theta/readers"))
"""Where `tests/readers/install` puts environments."""
TOKENS = 24
TOP = 5

CHATS = (*PROMPTS, (Message("user", "What is machine learning?"), Message("assistant", "It depends."), PROMPTS[0][0]))


def as_dicts(chat: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in chat]


@dataclass(frozen=True, slots=True)
class Agreement:
    """What a reader did with `CHATS`, compared with Theta's model in float32."""

    version: str
    prompts: int
    """Chats of which it read the same ids."""
    replies: int
    """Chats to which it wrote the same greedy reply of at most `TOKENS` tokens, to the end token."""
    difference: float
    """The largest difference of a log-probability of the `TOP` likeliest tokens, as far as the replies are the same."""


def python_of(version: str) -> Path:
    """Return the interpreter of the environment that `tests/readers/install` made for a version of transformers."""
    return HOME / f"transformers-{version}" / "bin" / "python"


def lacks(*packages: str) -> str | None:
    """Say which packages are not installed here; None if all are."""
    absent = [package for package in packages if find_spec(package) is None]
    return f"not installed: {', '.join(absent)}" if absent else None


def agreement(script: str, opened: Path, wanted: Sequence[dict[str, Any]], python: Path | None = None) -> Agreement:
    """Run a script of a reader on a file or folder, and compare its answers with Theta's."""
    request = json.dumps({"chats": [as_dicts(chat) for chat in CHATS], "tokens": TOKENS, "top": TOP})
    done = subprocess.run(
        [str(python or sys.executable), str(SCRIPTS / script), str(opened)],
        input=request, capture_output=True, text=True, check=False, env=alone(),
    )  # fmt: skip
    found = result(done)
    pairs = list(zip(found["answers"], wanted, strict=True))
    return Agreement(
        found["version"],
        sum(theirs["prompt"] == ours["prompt"] for theirs, ours in pairs),
        sum(theirs["reply"] == ours["reply"] for theirs, ours in pairs),
        max(_difference(theirs, ours) for theirs, ours in pairs),
    )


@torch.inference_mode()
def answers(model: GPT2LMHeadModel, vocabulary: Vocabulary) -> list[dict[str, Any]]:
    """Return Theta's own ids, greedy replies and log-probabilities, [vocabulary] at each step."""
    answered = []
    for chat in CHATS:
        prompt = vocabulary.encode(list(render_prompt(chat)))[0]
        reply: list[int] = []
        scores = []
        while len(reply) < TOKENS and reply[-1:] != [vocabulary.end_id]:
            scores.append(model(torch.tensor([prompt + reply])).logits[0, -1].double().log_softmax(0))
            reply.append(int(scores[-1].argmax()))
        answered.append({"prompt": prompt, "reply": reply, "scores": scores})
    return answered


def _difference(theirs: dict[str, Any], ours: dict[str, Any]) -> float:
    largest = 0.0
    for place, (top, scores) in enumerate(zip(theirs["top"], ours["scores"], strict=False)):
        if theirs["reply"][:place] == ours["reply"][:place]:
            largest = max(largest, *(abs(score - float(scores[token])) for token, score in top))
    return largest


def result(done: subprocess.CompletedProcess[str]) -> Any:
    """Return what a script printed after RESULT."""
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    assert lines, done.stderr[-3000:]
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(lines[-1].removeprefix("RESULT "))


def alone() -> dict[str, str]:
    """The environment of another program: no Theta, no network, one thread."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {**kept, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
