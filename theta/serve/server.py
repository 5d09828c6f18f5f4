"""Run the application: the address, the token that it needs, and a clean end."""

import gc
import ipaddress
import signal
import socket
import sys
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from theta.errors import SettingsError

SECONDS_TO_FINISH = 10
"""How long replies may go on after Ctrl-C or SIGTERM."""
MOST_CONNECTIONS = 1024
SWITCH_SECONDS = 0.0001
"""How long the event loop keeps Python's lock while the thread that asks for the next step waits for it. Python's own
5 ms are longer than a step on a GPU."""


def check_access(host: str, token: str | None) -> None:
    """Refuse to serve other machines without a token.

    Raises:
        SettingsError: the host is not an address of this machine alone, and there is no token.
    """
    if not token and not is_loopback(host):
        raise SettingsError(
            f"--host {host} lets other machines reach the server; set a token that they must send, with --token or "
            "THETA_TOKEN."
        )


def is_loopback(host: str) -> bool:
    """Whether only programs of this machine reach an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an address; port 0 takes a free one.

    Raises:
        SettingsError: the address cannot be used.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=MOST_CONNECTIONS)
    except (OSError, UnicodeError) as fault:
        # `create_server` adds the address to the system's words.
        words = (getattr(fault, "strerror", None) or str(fault)).partition(" (while ")[0]
        raise SettingsError(
            f"The server cannot listen on {host}, port {port} ({words}); choose another with --host or --port."
        ) from None


def address(listening: socket.socket) -> str:
    """Return the URL of a listening socket."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def run(app: FastAPI, listening: socket.socket, ready: Callable[[], None]) -> None:
    """Serve until Ctrl-C or SIGTERM; then finish the replies that are being written, but not for long.

    Args:
        app: the application.
        listening: from `bind`.
        ready: called when the server answers.
    """
    # At its end uvicorn raises the signal once more, for the handler that was there before.
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    switch_seconds = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    # What is loaded stays: without this, the collector goes through all of it again and again, and nobody is served.
    gc.collect()
    gc.freeze()
    try:
        server(app, ready).run(sockets=[listening])
    finally:
        gc.unfreeze()
        sys.setswitchinterval(switch_seconds)
        for number, handler in before.items():
            signal.signal(number, handler)


def server(app: FastAPI, ready: Callable[[], None]) -> uvicorn.Server:
    """Return what serves the application, with its limits; see `run`."""
    config = uvicorn.Config(
        app,
        log_level="error",  # not a line for each request that is no HTTP,
        access_log=False,
        use_colors=False,  # uvicorn would ask the standard output, which may be closed
        proxy_headers=False,
        ws="none",
        lifespan="on",
        limit_concurrency=MOST_CONNECTIONS,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=SECONDS_TO_FINISH,
        server_header=False,
    )
    return _Server(config, ready)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()
