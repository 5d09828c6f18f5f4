"""What each script of a reader does, without Theta: read the chats, answer them greedily, and print what it found.

python SCRIPT FOLDER < request.json > result.json

request   {"chats": [messages, ...], "tokens": the most to write, "top": likeliest tokens to report at each step}
result    {"version": the reader's, "answers": [{"prompt": ids, "reply": ids, "top": [[[id, log-probability], ...]]}]}
"""

import json
import sys
from collections.abc import Callable
from typing import Any

Messages = list[dict[str, str]]
Answer = dict[str, Any]


def main(version: str, answer: Callable[[Messages, int, int], Answer]) -> None:
    """Answer every chat of the request on stdin."""
    request = json.load(sys.stdin)
    answers = [answer(chat, request["tokens"], request["top"]) for chat in request["chats"]]
    print("RESULT " + json.dumps({"version": version, "answers": answers}))


def greedy(prompt: list[int], end: int, tokens: int, top: int, logits_after: Callable[[list[int]], Any]) -> Answer:
    """Write a reply from a function that takes the ids so far and returns the logits of the next one, [vocabulary]."""
    import numpy as np

    reply: list[int] = []
    tops = []
    while len(reply) < tokens and reply[-1:] != [end]:
        logits = np.asarray(logits_after(prompt + reply), dtype=np.float64)
        scores = logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())
        likeliest = np.argsort(-scores, kind="stable")[:top].tolist()
        tops.append([[token, float(scores[token])] for token in likeliest])
        reply.append(likeliest[0])
    return {"prompt": prompt, "reply": reply, "top": tops}


def encode(tokenizer: Any, chat: Messages) -> list[int]:
    """Return the ids of a prompt by the chat template of a tokenizer of transformers."""
    encoded = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)
    return list(encoded["input_ids"])
