"""One local Ray cluster a test module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from vp_ray.distributed.cluster import connect
from vp_ray.distributed.config import RaySettings


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    with connect(RaySettings()):
        yield
