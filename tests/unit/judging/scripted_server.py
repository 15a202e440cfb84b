"""An HTTP server that gives every chat request the reply it is told to: for what the embedded judge does not do."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class ScriptedServer:
    """Gives every chat request the reply that is set now."""

    def __init__(self) -> None:
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                script.connections += 1

            def do_POST(self) -> None:
                script.asked = self.rfile.read(int(self.headers["Content-Length"]))
                script.requests += 1
                script.path, script.sent_headers = self.path, dict(self.headers)
                self.send_response(script.status)
                self.send_header("Content-Type", script.content_type)
                self.send_header("Content-Length", str(len(script.content)))
                for name, value in script.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(script.content)

            def log_message(self, *arguments: Any) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        self.reply(200, {})
        self.path, self.asked = "", b""
        self.requests = self.connections = 0
        self.sent_headers: dict[str, str] = {}
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def reply(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
        """Sets status, JSON body (or HTML text) and headers."""
        self.status, self.headers = status, dict(headers or {})
        self.content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.content_type = "text/html" if isinstance(body, str) else "application/json"

    def close(self) -> None:
        """Ends the server."""
        self._server.shutdown()
        self._server.server_close()


def problem(code: str, message: str = "no") -> dict[str, Any]:
    """An error body as OpenAI writes it."""
    return {"error": {"code": code, "message": message, "type": "error", "param": None}}


def completion(text: str) -> dict[str, Any]:
    """A completion with this text, without a count of tokens."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    return {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
