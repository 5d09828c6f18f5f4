"""What clients get: OpenAI's answers, whole or as events of a stream, and its errors."""

import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from starlette.responses import JSONResponse

from theta.generate.engine import Token
from theta.serve.choices import Choices, Piece
from theta.tokens.vocabulary import Vocabulary

Json = dict[str, Any]

DONE = b"data: [DONE]\n\n"
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


class Answer(JSONResponse):
    """JSON in ASCII: halves of surrogate pairs, which a request may contain, have no other form."""

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return _encode(content).encode()


def event(content: Json) -> bytes:
    """Return a server-sent event."""
    try:
        encoded = orjson.dumps(content)
    except TypeError:  # half of a surrogate pair, as a model's name may have
        encoded = _encode(content).encode()
    return b"data: " + encoded + b"\n\n"


def error(message: str, kind: str = "invalid_request_error", param: str | None = None, code: str | None = None) -> Json:
    """Return OpenAI's form of an error."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


@dataclass(frozen=True)
class Form:
    """How the answers of one request look: those of a chat, or those of a plain completion.

    Args:
        chat: whether the request is of a chat.
        model: the name of the model.
        prompt_tokens: of all prompts.
        vocabulary: spells the tokens of log-probabilities.
        alternatives: None if no log-probabilities are asked for.
    """

    chat: bool
    model: str
    prompt_tokens: int
    vocabulary: Vocabulary
    alternatives: int | None
    created: int = field(default_factory=lambda: int(time.time()))
    unique: str = field(default_factory=lambda: uuid.uuid4().hex)

    def whole(self, pieces: Sequence[Sequence[Piece]], choices: Choices) -> Json:
        """Return the answer to a request without a stream, from the pieces of each choice."""
        made = [self._choice(of_one, whole=True) for of_one in pieces]
        return {**self._head("chat.completion"), "choices": made, "usage": self.usage(choices)}

    def opening(self, choices: Choices) -> list[Json]:
        """Return the first chunks of a stream: in a chat, one for each choice names who speaks."""
        if not self.chat:
            return []
        delta = {"role": "assistant", "content": "", "refusal": None}
        return [
            self._chunk([{"index": choice.index, "delta": delta, "logprobs": None, "finish_reason": None}])
            for choice in choices.all
        ]

    def chunk(self, piece: Piece) -> Json:
        """Return the chunk of a stream for a piece."""
        return self._chunk([self._choice([piece], whole=False)])

    def closing(self, choices: Choices) -> Json:
        """Return the last chunk of a stream, which counts the tokens."""
        return {**self._chunk([]), "usage": self.usage(choices)}

    def usage(self, choices: Choices) -> Json:
        """Return the counts of tokens."""
        written = choices.written
        counts = {"prompt_tokens": self.prompt_tokens, "completion_tokens": written}
        return {**counts, "total_tokens": self.prompt_tokens + written}

    def _head(self, kind: str) -> Json:
        prefix = "chatcmpl" if self.chat else "cmpl"
        kind = kind if self.chat else "text_completion"
        return {"id": f"{prefix}-{self.unique}", "object": kind, "created": self.created, "model": self.model}

    def _chunk(self, made: list[Json]) -> Json:
        return {**self._head("chat.completion.chunk"), "choices": made}

    def _choice(self, pieces: Sequence[Piece], whole: bool) -> Json:
        text = "".join(piece.text for piece in pieces)
        tokens = [token for piece in pieces for token in piece.tokens]
        made: Json = {"index": pieces[0].index}
        if not self.chat:
            made["text"] = text
            made["logprobs"] = None if self.alternatives is None else self._completion_logprobs(tokens)
        else:
            if whole:
                made["message"] = {"role": "assistant", "content": text, "refusal": None}
            else:
                made["delta"] = {"content": text} if text else {}
            made["logprobs"] = None if self.alternatives is None else self._chat_logprobs(tokens)
        made["finish_reason"] = pieces[-1].finish
        return made

    def _chat_logprobs(self, tokens: Sequence[tuple[Token, int]]) -> Json:
        content = [
            {
                **self._spelled(token.id, token.log_probability),
                "top_logprobs": [self._spelled(id_, value) for id_, value in token.alternatives],
            }
            for token, _ in tokens
        ]
        return {"content": content, "refusal": None}

    def _completion_logprobs(self, tokens: Sequence[tuple[Token, int]]) -> Json:
        return {
            "tokens": [self._token_text(token.id) for token, _ in tokens],
            "token_logprobs": [token.log_probability for token, _ in tokens],
            "top_logprobs": [
                {self._token_text(id_): value for id_, value in token.alternatives} for token, _ in tokens
            ],
            "text_offset": [before for _, before in tokens],
        }

    def _spelled(self, id_: int, log_probability: float | None) -> Json:
        text = self._token_text(id_)
        # A token may be a part of a character, whose bytes its text does not tell.
        whole = "\N{REPLACEMENT CHARACTER}" not in text
        return {"token": text, "logprob": log_probability, "bytes": list(text.encode()) if whole else None}

    def _token_text(self, id_: int) -> str:
        return self.vocabulary.tokenizer.decode([id_], skip_special_tokens=False)
