"""Serves the page of a run on loopback, so that chunks and thumbnails are made only when they are looked at."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from vp_ray.errors import StorageError, VpRayError
from vp_ray.view.chunks import Chunks
from vp_ray.view.page import PAGE, TYPES, page_file
from vp_ray.view.reading import ViewData
from vp_ray.view.thumbnails import Thumbnails

HOST: Final = "127.0.0.1"
_FOREVER: Final = "private, max-age=31536000, immutable"
_SIGNS: Final = (
    (b"\x89PNG", "image/png"),
    (b"\xff\xd8", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"RIFF", "image/webp"),
)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, port: int, data: ViewData, title: str, side: int) -> None:
        super().__init__((HOST, port), _Handler)
        self.data, self.title = data, title
        self.chunks = Chunks(data, title, served=True)
        self.thumbnails = Thumbnails(data, side)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away in the middle of an answer is no error."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self) -> None:
        """Answers with a file of the page, a chunk, a thumbnail or a whole picture."""
        # A page of another site can make a browser ask here under its own name; it may not read a run.
        host = self.headers.get("Host", "").rpartition(":")[0]
        if host not in (HOST, "localhost"):
            self._answer(HTTPStatus.FORBIDDEN, b"only for this machine", "text/plain")
            return
        try:
            data, kind, keep = self._content(self.path.partition("?")[0].lstrip("/") or PAGE)
        except (KeyError, ValueError):
            self._answer(HTTPStatus.NOT_FOUND, b"there is no such file", "text/plain")
        except VpRayError as error:
            self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, str(error).encode(), "text/plain; charset=utf-8")
        else:
            self._answer(HTTPStatus.OK, data, kind, keep)

    def _content(self, path: str) -> tuple[bytes, str, str]:
        folder, _, name = path.partition("/")
        if not name:
            kind = TYPES.get(path.rpartition(".")[2], "text/plain")
            return page_file(path, self.server.data, self.server.title), f"{kind}; charset=utf-8", "no-store"
        if folder == "data" and name.endswith(".js"):
            return self.server.chunks.script(name.removesuffix(".js")), "text/javascript; charset=utf-8", "no-store"
        if folder == "thumbs":
            place = int(name.rpartition("/")[2].removesuffix(".webp"))
            return self.server.thumbnails.small(place), "image/webp", _FOREVER
        if folder == "pictures":
            data = self.server.thumbnails.original(int(name))
            kind = next((kind for sign, kind in _SIGNS if data.startswith(sign)), "application/octet-stream")
            return data, kind, _FOREVER
        raise KeyError(path)

    def _answer(self, status: HTTPStatus, data: bytes, kind: str, keep: str = "no-store") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", keep)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments: object) -> None:
        """Stays quiet: a line a thumbnail would bury the address."""


@contextmanager
def serving(data: ViewData, title: str, side: int, port: int = 0) -> Iterator[str]:
    """The page's address while the block runs; port 0 takes a free one. Raises `StorageError` for a port in use."""
    try:
        server = _Server(port, data, title, side)
    except OSError as error:
        raise StorageError(f"the port cannot be used ({error})", "Give another --port.", f"{HOST}:{port}") from None
    thread = threading.Thread(target=server.serve_forever, name="view", daemon=True)
    thread.start()
    if len(data.judgement_J):
        # The browser takes a moment to come up; the texts are there by then.
        threading.Thread(target=server.chunks.texts, name="view-texts", daemon=True).start()
    try:
        yield f"http://{HOST}:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
