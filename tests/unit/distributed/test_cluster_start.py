"""A cluster that cannot be used is an error with a remedy, whatever Ray raised."""

from __future__ import annotations

from typing import Any

import pytest
import ray

from vp_ray.distributed.cluster import connect
from vp_ray.distributed.config import RaySettings
from vp_ray.errors import ClusterError


@pytest.mark.parametrize("kind", [Exception, RuntimeError, ConnectionError])
def test_a_local_cluster_that_does_not_start_is_told_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    def refuse(**_: Any) -> None:
        raise kind("The current node timed out during startup.\nSee the logs.")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(ClusterError) as told, connect(RaySettings()):
        pass
    assert str(told.value) == (
        "local cluster: Ray cannot be used (The current node timed out during startup)."
        " The machine may be too busy or short of memory: start the run again, it goes on where it was."
    )


def test_an_address_where_nothing_listens_is_told_before_ray_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(ClusterError, match=r"127\.0\.0\.1:1: no Ray cluster answers.*RAY_ADDRESS"):
        connect(RaySettings()).__enter__()
