"""The reward service while somebody needs it: beside a run, or in the foreground until Ctrl-C."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from vp_ray.distributed.cluster import connect
from vp_ray.distributed.config import RaySettings
from vp_ray.distributed.orphans import own_app_name, remove_orphans
from vp_ray.distributed.rewards import SCORERS
from vp_ray.distributed.serving import LOOPBACK, check_open, deploy, remove_app, start_serve
from vp_ray.errors import CheckpointError
from vp_ray.models.scorers import load_scorer
from vp_ray.reward.config import ServiceSettings
from vp_ray.reward.service import bound, read_token


@contextmanager
def running_service(checkpoint: str | Mapping[str, str], settings: ServiceSettings) -> Iterator[str]:
    """The name of an application that serves a checkpoint, or several by their ids, over handles; it is deleted with
    the context.

    Ray must be connected. Each checkpoint is read once before, so that a broken one is told here and not by a replica.
    """
    models = {"vp-score": checkpoint} if isinstance(checkpoint, str) else dict(checkpoint)
    _check_models(models)
    start_serve(None)
    remove_orphans()
    name = own_app_name("vp-score")
    try:
        deploy(bound(models, settings, http=False), SCORERS, name, None, _where(models))
        yield name
    finally:
        remove_app(name)


def _check_models(models: Mapping[str, str]) -> None:
    for name, checkpoint in models.items():
        try:
            load_scorer(checkpoint)
        except CheckpointError as error:
            if len(models) == 1:
                raise
            raise CheckpointError(f"model '{name}': {error.problem}", error.remedy, error.where) from None


@contextmanager
def served_over_http(
    models: Mapping[str, str], settings: ServiceSettings, host: str = LOOPBACK, port: int = 8000
) -> Iterator[str]:
    """The address of an application that serves models by their ids over HTTP; it is deleted with the context.

    Ray must be connected. Raises `SettingsError` for an address beyond this machine without a token.
    """
    check_open(host, read_token(settings))
    _check_models(models)
    start_serve((host, port))
    remove_orphans()
    name = own_app_name("vp-score")
    try:
        deploy(bound(models, settings, http=True), SCORERS, name, "/", _where(models))
        yield f"http://{f'[{host}]' if ':' in host else host}:{port}"
    finally:
        remove_app(name)


def serve_forever(
    models: Mapping[str, str],
    settings: ServiceSettings,
    host: str,
    port: int,
    tell: Callable[[str], object],
    ray_settings: RaySettings | None = None,
) -> None:
    """Serves models over HTTP until Ctrl-C."""
    check_open(host, read_token(settings))
    with connect(ray_settings or RaySettings()), served_over_http(models, settings, host, port) as address:
        tell(f"{', '.join(models)} at {address}/v1/score, a page at {address}/, the reference at {address}/docs")
        tell("Ctrl-C ends it.")
        while True:
            time.sleep(3600)


def _where(models: Mapping[str, str]) -> str:
    return ", ".join(models.values())
