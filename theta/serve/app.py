"""The server as an application: OpenAI's API, the page, and what operators ask for."""

import asyncio
import base64
import hashlib
import re
import reprlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

import theta
from theta.errors import StorageError, ThetaError
from theta.generate.assistant import ThetaModel
from theta.generate.settings import GenerationSettings
from theta.serve import completions, feedback
from theta.serve.answers import Answer, Json, error
from theta.serve.batching import Batching, BusyError, EngineError
from theta.serve.completions import Service
from theta.serve.guard import Guard
from theta.serve.metrics import CONTENT_TYPE, Metrics
from theta.serve.requests import Feedback

PAGE = Path(__file__).parent / "page.html"

router = APIRouter()


def create_app(
    model: ThetaModel,
    *,
    name: str,
    feedback_file: Path,
    created: int = 0,
    token: str | None = None,
    most_waiting: int = 256,
    seconds_per_request: float = 600.0,
) -> FastAPI:
    """Return the application.

    Args:
        model: its engine writes the replies, so nothing else may use it meanwhile.
        name: what clients call the model.
        feedback_file: where marked replies are kept.
        created: when the model was made, in seconds since 1970.
        token: what clients must send; None admits every program on this machine.
        most_waiting: replies that may wait for a row; more are refused with status 429.
        seconds_per_request: a reply that takes longer is ended with an error.
    """
    metrics = Metrics()
    batching = Batching(model.engine, metrics, most_waiting)

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:  # noqa: ARG001 - the form that FastAPI calls
        batching.start()
        yield
        await asyncio.to_thread(batching.close)

    app = FastAPI(
        title="Theta",
        version=theta.__version__,
        lifespan=running,
        docs_url=None,  # the pages with documentation load scripts from another host
        redoc_url=None,
    )
    app.state.service = Service(model, batching, metrics, name, created, feedback_file, seconds_per_request)
    app.include_router(completions.router)
    app.include_router(router)
    app.add_middleware(Guard, metrics=metrics, token=token)
    for kind, answer in _ANSWERS.items():
        app.add_exception_handler(kind, answer)
    return app


@router.get("/v1/models", response_model=None)
async def models(request: Request) -> Answer:
    """List the only model."""
    return Answer({"object": "list", "data": [_described(request.app.state.service)]})


@router.get("/v1/models/{name:path}", response_model=None)
async def model(request: Request, name: str) -> Answer:
    """Describe the model."""
    service: Service = request.app.state.service
    if name != service.name:
        words = f"This server has no model {name!r}; it serves {service.name!r}."
        return Answer(error(words, param="model", code="model_not_found"), 404)
    return Answer(_described(service))


def _described(service: Service) -> Json:
    ranges = GenerationSettings.model_json_schema()["properties"]
    return {
        "id": service.name,
        "object": "model",
        "created": service.created,
        "owned_by": "theta",
        "max_model_len": service.model.positions,
        "parameters": {
            name: {"default": value, "minimum": ranges[name]["minimum"], "maximum": ranges[name]["maximum"]}
            for name, value in service.model.settings.model_dump().items()
        },
    }


@router.post("/feedback", response_model=None)
async def mark(request: Request, body: Feedback) -> Answer:
    """Keep a marked reply for a later training."""
    file: Path = request.app.state.service.feedback
    messages = [message.to_theta() for message in body.messages]
    await asyncio.to_thread(feedback.record, file, body.id, messages, body.label)
    return Answer({"file": str(file)})


@router.get("/health", response_model=None)
async def health(request: Request) -> Answer:
    """Say whether the server can reply."""
    alive = request.app.state.service.batching.is_alive
    return Answer({"status": "ok" if alive else "the engine has stopped; restart the server"}, 200 if alive else 503)


@router.get("/metrics", response_model=None)
async def metrics(request: Request) -> Response:
    """Return the counts in Prometheus' format."""
    return Response(request.app.state.service.metrics.text(), media_type=CONTENT_TYPE)


@router.get("/", response_model=None)
async def page() -> Response:
    """Return the page to talk to."""
    text = PAGE.read_text(encoding="utf-8")
    return Response(text, media_type="text/html", headers=page_headers(text))


def page_headers(text: str) -> dict[str, str]:
    """Return headers that let the page run its own script and style alone, and reach this server alone."""
    hashes = {}
    for tag in ("script", "style"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        hashes[tag] = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
    policy = (
        "default-src 'none'",
        f"script-src 'sha256-{hashes['script']}'",
        f"style-src 'sha256-{hashes['style']}'",
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
    return {
        "Content-Security-Policy": "; ".join(policy),
        "Cache-Control": "no-cache",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }


def _of_theta(request: Request, fault: ThetaError) -> Answer:  # noqa: ARG001 - the form that FastAPI calls
    if isinstance(fault, BusyError):
        kept = error(str(fault), "rate_limit_error", code="rate_limit_exceeded")
        return Answer(kept, 429, {"Retry-After": str(fault.seconds)})
    if isinstance(fault, EngineError):
        return Answer(error(str(fault), "server_error"), 503)
    if isinstance(fault, StorageError):
        return Answer(error(str(fault), "server_error"), 507)
    return Answer(error(str(fault)), 400)


def _of_the_body(request: Request, fault: RequestValidationError) -> Answer:  # noqa: ARG001
    first = fault.errors()[0]
    # Where a value may have one of several types, pydantic names the type, too.
    param = ".".join(str(part) for part in first["loc"] if part not in ("body", "str") and "[" not in str(part))
    words = str(first["msg"]).removeprefix("Value error, ")
    match first["type"]:
        case "json_invalid":
            return Answer(error(f"The body is not valid JSON ({first['ctx']['error']})."), 400)
        case "extra_forbidden":
            return Answer(error(f"Unrecognized request argument supplied: {param}", param=param), 400)
        case "missing":
            return Answer(error(f"{param or 'The body'} is missing.", param=param), 400)
    return Answer(error(f"{param or 'The body'} is {reprlib.repr(first['input'])}: {words}.", param=param), 400)


def _of_http(request: Request, fault: HTTPException) -> Answer:  # noqa: ARG001
    kept = fault.detail if isinstance(fault.detail, dict) else error(str(fault.detail))
    return Answer(kept, fault.status_code, fault.headers)


def _late(request: Request, fault: TimeoutError) -> Answer:  # noqa: ARG001
    return Answer(error(request.app.state.service.late, "timeout"), 504)


def _unforeseen(request: Request, fault: Exception) -> Answer:  # noqa: ARG001
    return Answer(error("The server has a fault of its own; its log holds the details.", "server_error"), 500)


_ANSWERS: dict[type[Exception], Any] = {
    ThetaError: _of_theta,
    RequestValidationError: _of_the_body,
    HTTPException: _of_http,
    TimeoutError: _late,
    Exception: _unforeseen,
}
"""What answers each kind of fault."""
