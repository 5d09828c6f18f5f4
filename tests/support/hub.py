"""A hub on loopback with the parts of the Hugging Face hub's HTTP API that a download needs; it counts requests."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread


@dataclass
class Hub:
    """What the server serves; `requests` holds "METHOD path" of each request for a file."""

    url: str = ""
    requests: list[str] = field(default_factory=list)
    gated: set[str] = field(default_factory=set)
    _commits: dict[str, dict[str, Path]] = field(default_factory=dict)

    def publish(self, name: str, folder: Path, commit: str = "") -> str:
        """Make `folder` the newest commit of a model, and so its `main`; return the hash of the commit."""
        commits = self._commits.setdefault(name, {})
        commit = commit or hashlib.sha1(f"{name} {len(commits)}".encode()).hexdigest()
        commits[commit] = folder
        return commit

    def find(self, name: str, revision: str, file: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the answer."""
        commits = self._commits.get(name)
        if commits is None:
            return 401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}, b""
        if name in self.gated:
            return 403, {"X-Error-Code": "GatedRepo", "X-Error-Message": f"Access to {name} is restricted."}, b""
        commit = list(commits)[-1] if revision == "main" else revision
        if commit not in commits:
            return 404, {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"}, b""
        path = commits[commit] / file
        if not path.is_file():
            return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}, b""
        body = path.read_bytes()
        return 200, {"ETag": f'"{hashlib.sha256(body).hexdigest()}"', "X-Repo-Commit": commit}, body


@contextmanager
def serve() -> Iterator[Hub]:
    """A running hub without models; programs reach it with HF_ENDPOINT set to its `url`."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name, is_file, place = self.path.removeprefix("/").partition("/resolve/")
            status, headers, body = 404, dict[str, str](), b""
            if is_file:
                hub.requests.append(f"{self.command} {self.path}")
                status, headers, body = hub.find(name, *place.split("/", 1))
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *parts: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
