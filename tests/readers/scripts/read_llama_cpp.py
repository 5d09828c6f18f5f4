"""llama.cpp, by the server in the package xllamacpp: a GGUF file and nothing else."""

import json
import sys
from importlib.metadata import version
from typing import Any
from urllib.request import Request, urlopen

import xllamacpp
from answering import Answer, Messages, main

parameters = xllamacpp.CommonParams()
parameters.model.path = sys.argv[1]
parameters.n_ctx = 1024
parameters.n_parallel = 1
parameters.cpuparams.n_threads = 1
server = xllamacpp.Server(parameters)


def ask(path: str, **values: Any) -> Any:
    """Ask the server, as its own page does."""
    request = Request(server.listening_address + path, json.dumps(values).encode())
    request.add_header("Content-Type", "application/json")
    with urlopen(request) as reply:
        return json.load(reply)


def answer(chat: Messages, tokens: int, top: int) -> Answer:
    """Answer through the chat template of the file; the server itself stops at the end token."""
    rendered = ask("/apply-template", messages=chat)["prompt"]
    reply = ask(
        "/v1/chat/completions", messages=chat, max_tokens=tokens, temperature=0, repeat_penalty=1.0, cache_prompt=False,
        logprobs=True, top_logprobs=top,
    )  # fmt: skip
    steps = reply["choices"][0]["logprobs"]["content"]
    prompt = ask("/tokenize", content=rendered, add_special=True, parse_special=True)["tokens"]
    if len(prompt) != reply["usage"]["prompt_tokens"]:
        raise SystemExit(f"The server read {reply['usage']['prompt_tokens']} tokens of {len(prompt)}.")
    return {
        "prompt": prompt,
        "reply": [step["id"] for step in steps],
        "top": [[[each["id"], each["logprob"]] for each in step["top_logprobs"]] for step in steps],
    }


main(version("xllamacpp"), answer)
