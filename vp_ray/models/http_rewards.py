"""Rewards from a reward service over HTTP, for loops that run outside its cluster."""

from __future__ import annotations

import http.client
import json
import time
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, Final
from urllib.parse import urlsplit

import numpy as np

from vp_ray.errors import InputError, RewardError
from vp_ray.models.reward_inputs import check_batch
from vp_ray.models.rewards import check_scores
from vp_ray.pictures import encode_png
from vp_ray.protocols import Pixels, Scores
from vp_ray.records import OVERALL

_WAIT_SECONDS: Final = (0.2, 1.0, 3.0)
"""Between two attempts: a process that died is replaced within seconds."""
_PASSING: Final = ("overloaded", "replica_lost", "timed_out")
_SCHEMES: Final[Mapping[str, type[http.client.HTTPConnection]]] = {
    "http": http.client.HTTPConnection,
    "https": http.client.HTTPSConnection,
}


class HttpRewards:
    """A `RewardSource` that sends each batch as one form of PNG files, and again where the service lost it."""

    def __init__(
        self,
        address: str,
        *,
        token: str | None = None,
        model: str | None = None,
        timeout_seconds: float = 120.0,
        attempts: int = 4,
        connections: int = 8,
    ) -> None:
        """`address` is such as `http://127.0.0.1:8000`; `model` an id of its models, its first one when None.

        Raises `RewardError` when the service does not answer or has no such model.
        """
        parts = urlsplit(address)
        if parts.scheme not in _SCHEMES or not parts.netloc:
            raise InputError(f"'{address}' is no address of a service", "Give one such as http://127.0.0.1:8000.")
        self._connect, self._place = _SCHEMES[parts.scheme], (parts.netloc, parts.path.rstrip("/"))
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._timeout_seconds, self._attempts = timeout_seconds, attempts
        self._pool = ThreadPoolExecutor(connections, "rewards")
        models = {one["id"]: one["aspects"] for one in self._asked("GET", "/v1/models")["models"]}
        self._model = model or next(iter(models))
        if self._model not in models:
            raise RewardError(f"{address} has no model '{model}'", f"It has: {', '.join(models)}.")
        self._aspects = tuple(name for name in models[self._model] if name != OVERALL)

    @property
    def aspects(self) -> tuple[str, ...]:
        """The names of the columns of the scores."""
        return self._aspects

    def request(self, images: Pixels, prompts: Sequence[str]) -> _Pending:
        """Sends one batch without waiting for its scores; raises `InputError` where images and prompts do not fit."""
        check_batch(images, prompts)
        return _Pending(self._pool.submit(self._scores, images, tuple(prompts)), len(images))

    def _scores(self, images: Pixels, prompts: tuple[str, ...]) -> Scores:
        boundary = uuid.uuid4().hex
        fields = [("images", encode_png(image)) for image in images]
        fields += [("prompts", prompt.encode()) for prompt in prompts]
        fields += [("aspects", aspect.encode()) for aspect in self._aspects]
        fields.append(("model", self._model.encode()))
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="'.encode()
        body = b"".join(head + name.encode() + b'"\r\n\r\n' + data + b"\r\n" for name, data in fields)
        body += f"--{boundary}--\r\n".encode()
        answer = self._asked("POST", "/v1/score", body, f"multipart/form-data; boundary={boundary}")
        for place, result in enumerate(answer["results"]):
            if "scores" not in result:
                raise RewardError(f"image {place} of the batch got no score ({result['error']['message']})")
        rows = [[result["scores"][aspect] for aspect in self._aspects] for result in answer["results"]]
        return check_scores(np.array(rows, np.float32), len(images), self._aspects)

    def _asked(self, method: str, path: str, body: bytes | None = None, kind: str = "") -> dict[str, Any]:
        """The JSON of an answer; tries again where no model has refused."""
        deadline = time.monotonic() + self._timeout_seconds
        reason = "no attempt was allowed"
        for attempt in range(self._attempts):
            if attempt:
                wait = _WAIT_SECONDS[min(attempt, len(_WAIT_SECONDS)) - 1]
                time.sleep(max(0.0, min(wait, deadline - time.monotonic())))
            try:
                status, answer = self._exchange(method, path, body, kind, max(0.1, deadline - time.monotonic()))
            except (OSError, http.client.HTTPException) as error:
                reason = str(error) or type(error).__name__
                continue
            if status == http.client.OK:
                return answer
            told = answer.get("error")
            if told is not None and told["type"] not in _PASSING:
                raise RewardError(f"the reward service refused a batch ({told['message']})", "", self._place[0])
            reason = told["message"] if told is not None else f"status {status}"
        raise RewardError(
            f"the reward service did not answer in {self._attempts} attempts ({reason})", "Is it up?", self._place[0]
        )

    def _exchange(self, method: str, path: str, body: bytes | None, kind: str, seconds: float) -> tuple[int, Any]:
        connection = self._connect(self._place[0], timeout=seconds)
        try:
            headers = {**self._headers, "Content-Type": kind} if body is not None else self._headers
            connection.request(method, self._place[1] + path, body, headers)
            reply = connection.getresponse()
            text = reply.read()
        finally:
            connection.close()
        is_json = reply.headers.get_content_type() == "application/json"
        return reply.status, json.loads(text) if is_json else {}


class _Pending:
    def __init__(self, future: Future[Scores], images: int) -> None:
        self._future, self._images = future, images

    def result(self, timeout_seconds: float | None = None) -> Scores:
        """(B, A) scores; raises `RewardError` when they do not come, in time or at all."""
        try:
            return self._future.result(timeout_seconds)
        except FutureTimeoutError:
            self._future.cancel()
            raise RewardError(
                f"the rewards of {self._images} images did not come in time", "Add replicas (service.max_replicas)."
            ) from None
