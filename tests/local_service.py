"""The reward service without a cluster: its real routes and its real replica in this process, asked over real HTTP."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import uvicorn
from PIL import Image

from vp_ray.protocols import Scorer
from vp_ray.reward.api import Access, create_api
from vp_ray.reward.batching import Pass
from vp_ray.reward.config import ServiceSettings
from vp_ray.reward.replica import Replica, columns_of
from vp_ray.reward.scoring import Answer


class Counts:
    """What was watched."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.passes: list[Pass] = []

    def request(self, path: str, model: str, images: int, seconds: float, failures: Mapping[str, int]) -> None:
        self.requests[path] += 1
        self.failures.update(failures)


class LocalBackend:
    """A `Backend` that asks a replica in this process."""

    def __init__(self, scorers: Mapping[str, Scorer], settings: ServiceSettings) -> None:
        async def load(name: str) -> Scorer:
            return scorers[name]

        self.counts = Counts()
        self.models = tuple(scorers)
        self.replica = Replica(dict.fromkeys(scorers, ""), load, settings, self.counts, self.counts.passes.append)

    async def columns(self, model: str) -> tuple[str, ...]:
        return columns_of(await self.replica.model(model))

    async def score(self, model: str, images: Sequence[np.ndarray], prompts: Sequence[str]) -> Answer:
        return await self.replica.score_each(model, images, prompts)


@contextmanager
def serving(
    scorers: Mapping[str, Scorer], settings: ServiceSettings | None = None, access: Access | None = None
) -> Iterator[tuple[str, Counts]]:
    """The service's address, and what it counts."""
    settings = settings or ServiceSettings()
    backend = LocalBackend(scorers, settings)
    app = create_api(backend, settings.limits, access or Access(), backend.counts)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    end = time.monotonic() + 30
    while not server.started:
        assert time.monotonic() < end
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}", backend.counts
    finally:
        server.should_exit = True
        thread.join()
        backend.replica.close()


def encoded(image: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(image).save(sink, kind, **options)
    return sink.getvalue()


def base64_of(image: np.ndarray, kind: str = "PNG") -> str:
    return base64.b64encode(encoded(image, kind)).decode()


def ask(
    url: str, body: bytes | None = None, kind: str = "application/json", headers: Mapping[str, str] | None = None
) -> tuple[int, dict[str, Any]]:
    """Status and JSON of one request."""
    asked = urllib.request.Request(url, body, {"Content-Type": kind, **(headers or {})})  # noqa: S310 - loopback
    try:
        with urllib.request.urlopen(asked, timeout=60) as reply:  # noqa: S310
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def ask_json(url: str, **values: Any) -> tuple[int, dict[str, Any]]:
    """`POST /v1/score` with a JSON body."""
    return ask(f"{url}/v1/score", json.dumps(values).encode())


def form(parts: Sequence[tuple[str, bytes]], boundary: str = "xYzZY") -> tuple[bytes, str]:
    """A multipart body and its content type, as browsers and curl write them."""
    body = b""
    for name, data in parts:
        named = f'name="{name}"; filename="a.png"' if name == "images" else f'name="{name}"'
        body += f"--{boundary}\r\nContent-Disposition: form-data; {named}\r\n\r\n".encode() + data + b"\r\n"
    return body + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def scores_of(reply: Mapping[str, Any], columns: Sequence[str]) -> np.ndarray:
    """(B, columns) scores of an answer in which every image has some."""
    return np.array([[result["scores"][column] for column in columns] for result in reply["results"]])
