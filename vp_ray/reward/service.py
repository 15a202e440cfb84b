"""VP-Score as a Ray Serve application: one request may hold many images, and requests of all clients share batches."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, Final

import torch
from ray import serve
from ray.serve._private.constants import SERVE_LOGGER_NAME
from ray.serve.exceptions import RayServeException
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from vp_ray.distributed.cluster import connect
from vp_ray.distributed.config import RaySettings
from vp_ray.errors import ClusterError, InputError, RewardError, VpRayError
from vp_ray.models.reward import VPScore
from vp_ray.protocols import Pixels, Scores
from vp_ray.reward.config import ServiceSettings
from vp_ray.reward.scoring import Request, as_json, read_items, score_requests

_DEPLOYMENT: Final = "RewardService"
_START_SECONDS: Final = 600.0
_LOOPBACK: Final = "127.0.0.1"


class RewardService:
    """One replica: a VP-Score and a thread that scores, so that the event loop keeps taking requests."""

    def __init__(self, checkpoint: str, settings: dict[str, Any]) -> None:
        self._settings = ServiceSettings.model_validate(settings)
        torch.set_num_threads(self._settings.threads_per_replica)
        device = torch.device("cuda" if self._settings.gpus_per_replica else "cpu")
        self._model = VPScore.from_pretrained(checkpoint).to(device)
        self._thread = ThreadPoolExecutor(1, "score")
        self._batch_began: float | None = None
        self._together.set_max_batch_size(self._settings.max_batch_requests)
        self._together.set_batch_wait_timeout_s(self._settings.batch_wait_seconds)

    @serve.batch(max_batch_size=16, batch_wait_timeout_s=0.005)
    async def _together(self, requests: list[Request]) -> list[Scores | VpRayError]:
        self._batch_began = time.monotonic()
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, score_requests, self._model, requests)
        finally:
            self._batch_began = None

    async def score(self, images: Pixels, prompts: Sequence[str]) -> Scores:
        """(B, A) scores of (B, H, W, 3) uint8 images, given as an array or an object reference, and B prompts.

        Raises `InputError` where they do not fit and `RewardError` where a score is not finite.
        """
        answer = await self._together((images, prompts))
        if isinstance(answer, VpRayError):
            raise answer
        return answer

    async def aspects(self) -> tuple[str, ...]:
        """The names of the columns of `score`."""
        return self._model.aspects

    async def check_health(self) -> None:
        """Raises `RewardError` when a batch has been in work for too long, after which Serve replaces the replica."""
        if self._batch_began and time.monotonic() - self._batch_began > self._settings.stuck_after_seconds:
            raise RewardError("a batch is stuck", "Raise service.stuck_after_seconds where batches are that large.")

    async def __call__(self, request: HttpRequest) -> Response:
        """`POST /v1/score` and `GET /health`."""
        if request.method == "GET" and request.url.path.endswith("/health"):
            return JSONResponse({"status": "ok", "aspects": list(self._model.aspects)})
        if request.method != "POST" or not request.url.path.endswith("/v1/score"):
            return _failed(404, InputError("there is nothing here", "POST to /v1/score."))
        try:
            items = read_items(await request.json())
        except (InputError, ValueError) as error:
            refused = error if isinstance(error, InputError) else InputError(f"the body is no JSON ({error})")
            return _failed(400, refused)
        answers = await asyncio.gather(*(self._answer(item) for item in items))
        return JSONResponse({"results": [as_json(self._model, answer) for answer in answers]})

    async def _answer(self, item: Request | InputError) -> Scores | VpRayError:
        return item if isinstance(item, InputError) else await self._together(item)


def _failed(code: int, error: VpRayError) -> Response:
    return JSONResponse({"error": {"type": type(error).__name__, "message": str(error)}}, status_code=code)


def application(arguments: dict[str, Any]) -> serve.Application:
    """The application of a Serve configuration file: `args` holds `checkpoint` and, at will, keys of `service`.

    Raises `SettingsError` for a key that does not exist.
    """
    values = dict(arguments)
    checkpoint = str(values.pop("checkpoint", ""))
    return _bound(checkpoint, ServiceSettings.load(values, "args"))


def _bound(checkpoint: str, settings: ServiceSettings) -> serve.Application:
    scaling = {"min_replicas": settings.min_replicas, "max_replicas": settings.max_replicas}
    resources = {"num_cpus": settings.cpus_per_replica, "num_gpus": settings.gpus_per_replica}
    deployment = serve.deployment(
        name=_DEPLOYMENT,
        autoscaling_config={**scaling, "initial_replicas": settings.min_replicas},
        # Batches fill only from requests that a replica holds; Serve's own limit of 5 would starve them.
        max_ongoing_requests=4 * settings.max_batch_requests,
        ray_actor_options={**resources, **({"label_selector": settings.labels} if settings.labels else {})},
        health_check_period_s=5,
        health_check_timeout_s=30,
    )(RewardService)
    return deployment.bind(checkpoint, settings.model_dump(mode="json"))


def deploy(checkpoint: str, settings: ServiceSettings, app_name: str, route: str | None = None) -> None:
    """Starts the application and waits until it scores; without a route it takes no HTTP.

    Raises `ClusterError` when no replica came up.
    """
    try:
        handle = serve.run(_bound(checkpoint, settings), name=app_name, route_prefix=route)
        handle.aspects.remote().result(timeout_s=_START_SECONDS)
    except (RuntimeError, TimeoutError) as error:
        _remove(app_name)
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ClusterError(
            f"the reward service did not start ({reason})", "Look at the Serve logs.", checkpoint
        ) from error


@contextmanager
def running_service(checkpoint: str, settings: ServiceSettings) -> Iterator[str]:
    """The name of an application that serves the checkpoint over handles, and that is deleted with the context.

    Ray must be connected. The checkpoint is read once before, so that a broken one is told here and not by a replica.
    """
    VPScore.from_pretrained(checkpoint)
    name = f"vp-score-{uuid.uuid4().hex[:8]}"
    _start_serve(http_port=None)
    try:
        deploy(checkpoint, settings, name)
        yield name
    finally:
        _remove(name)


def _remove(app_name: str) -> None:
    # A handle reports to the controller from a thread, and that thread would start a Ray of its own once this process
    # has left the cluster.
    with suppress(RayServeException):
        serve.get_app_handle(app_name).shutdown()
    serve.delete(app_name)


def _start_serve(http_port: int | None) -> None:
    logging.getLogger(SERVE_LOGGER_NAME).setLevel(logging.WARNING)
    if http_port is None:
        serve.start(proxy_location="Disabled", logging_config={"log_level": "ERROR"})
        return
    serve.start(http_options={"host": _LOOPBACK, "port": http_port}, logging_config={"log_level": "WARNING"})


def serve_forever(
    checkpoint: str, settings: ServiceSettings, port: int, ray_settings: RaySettings | None = None
) -> None:
    """Serves the checkpoint over HTTP on loopback until Ctrl-C."""
    VPScore.from_pretrained(checkpoint)
    with connect(ray_settings or RaySettings()):
        _start_serve(port)
        name = f"vp-score-{uuid.uuid4().hex[:8]}"
        try:
            deploy(checkpoint, settings, name, route="/")
            print(f"VP-Score at http://{_LOOPBACK}:{port}/v1/score (Ctrl-C ends it)", flush=True)
            while True:
                time.sleep(3600)
        finally:
            _remove(name)
