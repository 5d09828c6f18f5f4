"""A hub on loopback with the parts of the Hugging Face hub's HTTP API that a download needs; it counts requests."""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

from tests.support.loopback import listening


@dataclass
class Hub:
    """What the server serves; `requests` holds "METHOD path" of each request for a file or about a dataset."""

    url: str = ""
    requests: list[str] = field(default_factory=list)
    gated: set[str] = field(default_factory=set)
    _commits: dict[str, dict[str, Path]] = field(default_factory=dict)

    def publish(self, name: str, folder: Path, commit: str = "") -> str:
        """Make `folder` the newest commit of a model, or of "datasets/NAME", and so its `main`; return its hash."""
        commits = self._commits.setdefault(name, {})
        commit = commit or hashlib.sha1(f"{name} {len(commits)}".encode()).hexdigest()
        commits[commit] = folder
        return commit

    def describe(self, name: str, question: str, paths: list[str]) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the answer to a question about a dataset, such as `tree/main`.

        Args:
            name: the dataset, with "datasets/" before it.
            question: what follows the name in the path of the request.
            paths: of `paths-info`, the paths in question.
        """
        kind, _, place = question.partition("/")
        revision, _, below = place.partition("/")
        status, headers, _ = self.find(name, revision or "main", ".")
        if "EntryNotFound" not in headers.values():
            return status, headers, b""
        commit = headers["X-Repo-Commit"]
        entries = self._entries(self._commits[name][commit])
        if kind == "tree":
            answer: Any = [each for each in entries if each["path"].startswith(f"{below}/" if below else "")]
        elif kind == "paths-info":
            answer = [each for each in entries if each["path"] in paths]
        else:
            files = [{"rfilename": each["path"]} for each in entries if each["type"] == "file"]
            answer = {
                "id": name.removeprefix("datasets/"),
                "sha": commit,
                "siblings": files,
                "private": False,
                "tags": [],
            }
        return 200, {"Content-Type": "application/json"}, json.dumps(answer).encode()

    def _entries(self, folder: Path) -> list[dict[str, Any]]:
        return [
            {
                "type": "directory" if path.is_dir() else "file",
                "path": path.relative_to(folder).as_posix(),
                "size": path.stat().st_size,
                "oid": hashlib.sha1(path.read_bytes() if path.is_file() else b"").hexdigest(),
            }
            for path in sorted(folder.rglob("*"))
        ]

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
            path, _, _ = unquote(self.path).removeprefix("/").partition("?")
            name, is_file, place = path.partition("/resolve/")
            status, headers, body = 404, dict[str, str](), b""
            if is_file:
                hub.requests.append(f"{self.command} {self.path}")
                status, headers, body = hub.find(name, *place.split("/", 1))
            elif found := re.fullmatch(r"api/(datasets/[^/]+(?:/(?!revision|tree|paths)[^/]+)?)/?(.*)", path):
                hub.requests.append(f"{self.command} {self.path}")
                asked = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                form = parse_qs(asked.decode())
                status, headers, body = hub.describe(found[1], found[2], form.get("paths", []))
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_POST = do_GET  # noqa: N815

        def log_message(self, *parts: object) -> None:
            pass

    with listening(Handler) as hub.url:
        yield hub
