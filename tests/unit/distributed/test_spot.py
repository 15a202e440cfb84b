"""The notices of both clouds, from a metadata server of their form on loopback."""

from __future__ import annotations

import datetime
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from vp_ray.distributed.spot import seconds_left


class Metadata(BaseHTTPRequestHandler):
    """Answers as the clouds do: AWS only with a session token, GCP only with its header."""

    notice = False

    def do_PUT(self) -> None:
        good = self.path == "/latest/api/token" and "X-aws-ec2-metadata-token-ttl-seconds" in self.headers
        self._answer(200 if good else 400, "a token" if good else "")

    def do_GET(self) -> None:
        if self.path == "/latest/meta-data/spot/instance-action":
            if self.headers.get("X-aws-ec2-metadata-token") != "a token":
                self._answer(401, "")
            elif not type(self).notice:
                self._answer(404, "not found")
            else:
                until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=100)
                self._answer(200, json.dumps({"action": "terminate", "time": until.strftime("%Y-%m-%dT%H:%M:%SZ")}))
        elif self.headers.get("Metadata-Flavor") == "Google":
            self._answer(200, "TRUE" if type(self).notice else "FALSE")
        else:
            self._answer(403, "")

    def _answer(self, code: int, text: str) -> None:
        self.send_response(code)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def metadata() -> Iterator[str]:
    Metadata.notice = False
    server = ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_machine_that_nobody_takes_has_no_end(metadata: str) -> None:
    assert seconds_left("aws", metadata) is None
    assert seconds_left("gcp", metadata) is None


def test_a_notice_tells_how_long_is_left(metadata: str) -> None:
    Metadata.notice = True
    aws = seconds_left("aws", metadata)
    assert aws is not None
    assert 95 <= aws <= 100
    assert seconds_left("gcp", metadata) == 30


def test_a_server_that_does_not_answer_raises(metadata: str) -> None:
    with pytest.raises(OSError, match="refused"):
        seconds_left("aws", "http://127.0.0.1:9")
