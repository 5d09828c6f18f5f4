"""A hub on loopback with the parts of the Hugging Face hub's HTTP API that an upload needs; it keeps what it gets."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.support.loopback import listening

LARGE = 10_000
"""Files of more bytes are sent by themselves, as git-lfs does it; the others are part of the commit."""


@dataclass
class UploadHub:
    """What the server received: `repositories` by name with their settings, and the files of the last commit."""

    url: str = ""
    accepts_cards: bool = True
    requests: list[str] = field(default_factory=list)
    repositories: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    _blobs: dict[str, bytes] = field(default_factory=dict)

    def answer(self, path: str, body: bytes) -> tuple[int, Any]:
        """Status and JSON of the answer to a request with this body."""
        if path == "/api/validate-yaml":
            faults = [] if self.accepts_cards else [{"message": '"license" must be one of [mit, ...]'}]
            return (200 if self.accepts_cards else 400), {"errors": faults, "warnings": []}
        if path.startswith("/blobs/"):
            self._blobs[path.removeprefix("/blobs/")] = body
            return 200, {}
        answers = {
            "/api/repos/create": self._create,
            "/preupload/": self._modes,
            "/info/lfs/objects/batch": self._batch,
            "/commit/": self._commit,
        }
        answer = next((answer for part, answer in answers.items() if part in path), None)
        return (200, answer(body)) if answer else (404, {"error": "not found"})

    def _create(self, body: bytes) -> dict[str, Any]:
        asked = json.loads(body)
        name = f"{asked.get('organization', 'me')}/{asked['name']}"
        self.repositories[name] = asked
        return {"url": f"{self.url}/{name}", "name": name}

    def _modes(self, body: bytes) -> dict[str, Any]:
        return {"files": [self._mode(each) for each in json.loads(body)["files"]]}

    def _batch(self, body: bytes) -> dict[str, Any]:
        return {"transfer": "basic", "objects": [self._action(each) for each in json.loads(body)["objects"]]}

    def _mode(self, file: dict[str, Any]) -> dict[str, Any]:
        mode = "lfs" if file["size"] > LARGE else "regular"
        return {"path": file["path"], "uploadMode": mode, "shouldIgnore": False}

    def _action(self, blob: dict[str, Any]) -> dict[str, Any]:
        return {**blob, "authenticated": True, "actions": {"upload": {"href": f"{self.url}/blobs/{blob['oid']}"}}}

    def _commit(self, body: bytes) -> dict[str, Any]:
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                self.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.files[value["path"]] = self._blobs[value["oid"]]
        commit = "1" * 40
        return {"commitUrl": f"{self.url}/{next(iter(self.repositories))}/commit/{commit}", "commitOid": commit}


@contextmanager
def serve() -> Iterator[UploadHub]:
    """A running hub without models; programs reach it with HF_ENDPOINT set to its `url`."""
    hub = UploadHub()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            hub.requests.append(f"{self.command} {self.path}")
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length) if length else self._chunks()
            status, value = hub.answer(self.path.partition("?")[0], body)
            written = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(written)))
            self.end_headers()
            self.wfile.write(written)

        do_PUT = do_GET = do_POST  # noqa: N815

        def _chunks(self) -> bytes:
            """Read a body that is sent in chunks."""
            body = b""
            while self.headers.get("Transfer-Encoding") == "chunked" and (size := int(self.rfile.readline(), 16)):
                body += self.rfile.read(size)
                self.rfile.readline()
            return body

        def log_message(self, *parts: object) -> None:
            pass

    with listening(Handler) as hub.url:
        yield hub
