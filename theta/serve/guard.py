"""What stands before the routes: who may ask, from where, how large a body may be, and what is counted."""

import asyncio
import hmac
from urllib.parse import urlsplit

from fastapi import HTTPException
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from theta.serve.answers import Answer, error
from theta.serve.metrics import Metrics

OPEN_PATHS = ("/", "/health")
"""Paths that need no token: the page asks for it, and supervisors have none."""

SECONDS_PER_BODY = 30.0
BYTES_PER_BODY = 1 << 20
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Guard:
    """Refuses requests without the token, and those that a page of another site sends.

    A page of any site may send requests to this machine: by a name that it makes point here, or across sites. So
    without a token only names of this machine are accepted, and never a request from the page of another host.

    Args:
        app: what answers the others.
        metrics: counts requests.
        token: what clients must send as a bearer token; None if none is needed.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, token: str | None) -> None:
        self._app, self._metrics, self._token = app, metrics, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                # The route, not the path: clients may ask for paths without end.
                route = getattr(scope.get("route"), "path", "other")
                self._metrics.requests.labels(route, message["status"]).inc()
            await send(message)

        refusal = self._refusal(scope["path"], Headers(scope=scope))
        await (refusal or self._app)(scope, _limited(receive), counted)

    def _refusal(self, path: str, headers: Headers) -> Answer | None:
        host = headers.get("host", "")
        origin = headers.get("origin")
        if origin is not None and urlsplit_host(origin) != host.lower():
            return Answer(error(f"Requests from pages of {origin} are refused.", code="foreign_origin"), 403)
        if self._token is None:
            if _name(host) not in LOOPBACK:
                return Answer(error(f"The host {host!r} is not this machine; call it localhost.", code="host"), 403)
        elif path not in OPEN_PATHS and not self._is_allowed(headers.get("authorization", "")):
            words = "The token is missing or wrong; send it as the API key."
            return Answer(error(words, "authentication_error", code="invalid_api_key"), 401)
        return None

    def _is_allowed(self, authorization: str) -> bool:
        scheme, _, token = authorization.partition(" ")
        assert self._token is not None
        # Headers come as Latin-1, whatever their encoding is.
        return scheme.lower() == "bearer" and hmac.compare_digest(token.strip().encode("latin-1"), self._token.encode())


def urlsplit_host(origin: str) -> str:
    """Return the host and port of an origin; empty if it names none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _name(host: str) -> str:
    """Return the name of a Host header without the port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _limited(receive: Receive) -> Receive:
    """Return `receive` for a body that must arrive within `SECONDS_PER_BODY` and have at most `BYTES_PER_BODY`."""
    complete, size = False, 0
    deadline = asyncio.get_running_loop().time() + SECONDS_PER_BODY

    async def limited() -> Message:
        nonlocal complete, size
        if complete:  # what follows is the disconnect, at any time
            return await receive()
        try:
            async with asyncio.timeout_at(deadline):
                message = await receive()
        except TimeoutError:
            raise HTTPException(408, f"The body did not arrive within {SECONDS_PER_BODY:g} seconds.") from None
        size += len(message.get("body", b""))
        if size > BYTES_PER_BODY:
            raise HTTPException(413, f"The body has more than {BYTES_PER_BODY:,} bytes; send a shorter conversation.")
        complete = not message.get("more_body", False)
        return message

    return limited
