"""A registry of the distribution protocol, version 2, as small as `docker push`, `docker pull` and buildx need it."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

TLS_HANDSHAKE = b"\x16"  # the first byte of one


@dataclass(frozen=True, kw_only=True)
class Registry:
    """A running registry: where it listens, and the folder of all that was pushed to it, by digest and by tag."""

    address: str
    folder: Path

    def put_manifest(self, name: str, content: dict[str, Any], media_type: str) -> str:
        """Store a manifest as a push would; its digest."""
        data = json.dumps({**content, "mediaType": media_type}).encode()
        digest = _digest(data)
        for reference in (digest, "latest"):
            target = self.folder / f"{name}@{reference}"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        return digest

    def manifest(self, name: str, reference: str) -> dict[str, Any]:
        """A manifest that was pushed."""
        found = json.loads((self.folder / f"{name}@{reference}").read_bytes())
        assert isinstance(found, dict)
        return found

    def blob_size(self, digest: str) -> int:
        """How many bytes of a blob were really sent."""
        return (self.folder / digest).stat().st_size


@contextmanager
def registry(folder: Path) -> Iterator[Registry]:
    """A registry on this host's loopback, which every engine here may use without TLS; it ends with the block."""
    handler = type("Handler", (_Handler,), {"folder": folder})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield Registry(address=f"127.0.0.1:{server.server_port}", folder=folder)
        server.shutdown()
        thread.join()


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class _Handler(BaseHTTPRequestHandler):
    folder: Path
    protocol_version = "HTTP/1.1"

    def handle(self) -> None:
        if (
            self.connection.recv(1, socket.MSG_PEEK) == TLS_HANDSHAKE
        ):  # an engine tries TLS first, and takes this for a no
            self.wfile.write(b"HTTP/1.0 400 Bad Request\r\n\r\n")
            return
        super().handle()

    def do_GET(self) -> None:
        match = re.fullmatch(r"/v2/(.+)/(manifests|blobs)/([^/]+)", urlsplit(self.path).path)
        if match is None:
            self.answer(200)
            return
        name, kind, reference = match.groups()
        file = self.folder / (f"{name}@{reference}" if kind == "manifests" else reference)
        if not file.is_file():
            self.answer(404)
        elif kind == "manifests":
            data = file.read_bytes()
            self.answer(
                200, data, {"Content-Type": json.loads(data)["mediaType"], "Docker-Content-Digest": _digest(data)}
            )
        else:
            self.answer(200, file.read_bytes(), {"Content-Type": "application/octet-stream"})

    do_HEAD = do_GET  # noqa: N815 - the base class calls it so

    def do_POST(self) -> None:
        upload = uuid.uuid4().hex
        (self.folder / upload).touch()
        self.answer(202, headers={"Location": f"{self.path.rstrip('/')}/{upload}", "Range": "0-0"})

    def do_PATCH(self) -> None:
        upload = self.folder / urlsplit(self.path).path.rpartition("/")[2]
        with upload.open("ab") as file:
            self.receive(file)
        headers = {"Location": self.path, "Range": f"0-{max(upload.stat().st_size - 1, 0)}"}
        self.answer(202, headers=headers)

    def do_PUT(self) -> None:
        parts = urlsplit(self.path)
        match = re.fullmatch(r"/v2/(.+)/manifests/([^/]+)", parts.path)
        if match:
            file = self.folder / uuid.uuid4().hex
            with file.open("wb") as received:
                self.receive(received)
            digest = _digest(file.read_bytes())
            for reference in (digest, match[2]):
                target = self.folder / f"{match[1]}@{reference}"
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.read_bytes())
            file.unlink()
        else:
            digest = parse_qs(parts.query)["digest"][0]
            upload = self.folder / parts.path.rpartition("/")[2]
            with upload.open("ab") as rest:
                self.receive(rest)
            upload.replace(self.folder / digest)
        self.answer(201, headers={"Location": self.path, "Docker-Content-Digest": digest})

    def receive(self, file: Any) -> None:
        """The body, whichever of HTTP's two ways it comes."""
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                file.write(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers.get("Content-Length") or 0)
        while left:
            piece = self.rfile.read(min(left, 1 << 20))
            file.write(piece)
            left -= len(piece)

    def answer(self, status: int, data: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class calls it so
        """Nothing: a test's output is its own."""
