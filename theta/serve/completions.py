"""POST /v1/chat/completions and /v1/completions: a request becomes prompts, and their replies an answer."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from fastapi import APIRouter, HTTPException, Request, Response
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from theta.conversation.template import Span
from theta.errors import GenerationError
from theta.generate.assistant import ThetaModel
from theta.generate.settings import GenerationSettings
from theta.serve.answers import DONE, Answer, Form, Json, error, event
from theta.serve.batching import LOG, Batching, EngineError
from theta.serve.choices import Choices, Piece, Prompt
from theta.serve.metrics import Metrics
from theta.serve.requests import ChatRequest, CompletionRequest, GenerationRequest

GONE = 499
"""The status of a request whose client has left; nobody reads it."""
SHORT_PROMPT = 2000
"""Characters, or ids, that are read in less time than it takes to hand them to a thread."""

router = APIRouter()
T = TypeVar("T")


@dataclass
class Service:
    """What the routes need; `request.app.state.service` holds it."""

    model: ThetaModel
    batching: Batching
    metrics: Metrics
    name: str
    """What clients call the model."""
    created: int
    """When the model was made, in seconds since 1970."""
    feedback: Path
    """The file of marked replies."""
    seconds_per_request: float
    said: set[str] = field(default_factory=set)
    """Lines that the log has already."""

    def say_once(self, line: str) -> None:
        """Log a line, the first time."""
        if line not in self.said:
            self.said.add(line)
            LOG.info(line)

    @property
    def late(self) -> str:
        """Say that a reply took too long."""
        return f"The reply took longer than {self.seconds_per_request:g} seconds; ask for a shorter one."


@router.post("/v1/chat/completions", response_model=None)
async def chat_completions(request: Request, body: ChatRequest) -> Response:
    """Reply to a conversation."""
    service = _service(request, body)
    settings = _settings(service, body)
    messages = [message.to_theta() for message in body.messages]
    fitted = await _read(
        sum(len(message["content"]) for message in messages),
        lambda: service.model.fitted(messages, max_length=settings.max_length),
    )
    if fitted.left_out:
        service.say_once(
            f"Conversations are read up to {service.model.conversation_tokens} tokens, as many as the model has "
            "learned to deal with; older messages are left out."
        )
    return await _answer(request, body, [Prompt(fitted.ids, settings, body.alternatives)], chat=True)


@router.post("/v1/completions", response_model=None)
async def completions(request: Request, body: CompletionRequest) -> Response:
    """Go on with plain texts."""
    service = _service(request, body)
    settings = _settings(service, body)
    prompts = body.prompts()
    encoded = await _read(sum(map(len, prompts)), lambda: _plain_ids(service.model, prompts))
    return await _answer(request, body, [Prompt(ids, settings, body.alternatives) for ids in encoded], chat=False)


async def _read(size: int, reading: Callable[[], T]) -> T:
    """Return what the reading of a prompt comes to. A long one is read in a thread, so that nobody else waits."""
    return reading() if size <= SHORT_PROMPT else await asyncio.to_thread(reading)


def _plain_ids(model: ThetaModel, prompts: Sequence[str | list[int]]) -> list[list[int]]:
    """Return the ids of prompts without the marks of a chat.

    Raises:
        GenerationError: it has an id that is not in the vocabulary, or no room for a reply.
    """
    vocabulary, positions = model.vocabulary, model.positions
    encoded = []
    for prompt in prompts:
        ids = vocabulary.encode([Span(prompt, learned=False)])[0] if isinstance(prompt, str) else prompt
        if unknown := [id_ for id_ in ids if not 0 <= id_ < vocabulary.size]:
            raise GenerationError(f"The prompt has the id {unknown[0]}, allowed is 0 to {vocabulary.size - 1}.")
        if len(ids) >= positions:
            raise GenerationError(
                f"The prompt has {len(ids)} tokens; the model reads {positions}, prompt and reply together."
            )
        encoded.append(ids)
    return encoded


def _service(request: Request, body: GenerationRequest) -> Service:
    service: Service = request.app.state.service
    if body.model != service.name:
        words = f"There is no model {body.model!r} here; this server has {service.name!r}."
        raise HTTPException(404, error(words, param="model", code="model_not_found"))
    return service


def _settings(service: Service, body: GenerationRequest) -> GenerationSettings:
    return service.model.settings.replaced(**body.parameters())


async def _answer(request: Request, body: GenerationRequest, prompts: Sequence[Prompt], *, chat: bool) -> Response:
    """Queue the replies to the prompts, and answer with them, whole or as a stream."""
    service: Service = request.app.state.service
    choices = Choices(service.batching, service.model.vocabulary)
    choices.submit(prompts, body.choices, body.seed, body.stop or [], whole=not body.stream)
    tokens = sum(len(prompt.ids) for prompt in prompts)
    form = Form(chat, service.name, tokens, service.model.vocabulary, prompts[0].alternatives)
    if body.stream:
        events = _stream(service, choices, form, body.includes_usage)
        return _Events(choices, events)
    try:
        answer = await _unless_gone(request, _whole(service, choices, form))
    finally:
        choices.leave()
    return Response(status_code=GONE) if answer is None else Answer(answer)


class _Events(StreamingResponse):
    """A stream of events; however it ends, nothing more is written for it."""

    def __init__(self, choices: Choices, events: AsyncIterator[bytes]) -> None:
        super().__init__(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
        self._choices = choices

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._choices.leave()


async def _whole(service: Service, choices: Choices, form: Form) -> Json:
    pieces: list[list[Piece]] = [[] for _ in choices.all]
    async with asyncio.timeout(service.seconds_per_request):
        async for piece in _counted(service, choices, form):
            pieces[piece.index].append(piece)
    return form.whole(pieces, choices)


async def _stream(service: Service, choices: Choices, form: Form, includes_usage: bool) -> AsyncIterator[bytes]:
    try:
        async with asyncio.timeout(service.seconds_per_request):
            for opening in form.opening(choices):
                yield event(opening)
            async for piece in _counted(service, choices, form):
                yield event(form.chunk(piece))
    except TimeoutError:
        yield event(error(service.late, "timeout"))
    except EngineError as fault:
        yield event(error(str(fault), "server_error"))
    else:
        if includes_usage:
            yield event(form.closing(choices))
    yield DONE


async def _counted(service: Service, choices: Choices, form: Form) -> AsyncIterator[Piece]:
    """Yield the pieces of the choices, and count what they took."""
    loop = asyncio.get_running_loop()
    begun, first = loop.time(), True
    try:
        async for piece in choices.pieces():
            if first:
                service.metrics.first_token.observe(loop.time() - begun)
                first = False
            yield piece
    finally:
        service.metrics.prompt_tokens.inc(form.prompt_tokens)
        service.metrics.reply_tokens.inc(choices.written)
        service.metrics.reply.observe(loop.time() - begun)


async def _unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T | None:
    """Return what the work comes to, or None as soon as the client has left."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    working, leaving = asyncio.create_task(work), asyncio.create_task(gone())
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        for task in (working, leaving):
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task
