"""One whole undisturbed loop, which the tests of the whole share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.end_to_end.driver import Ended, command, small_loop
from vp_ray.storage import RunFolder


@dataclass(frozen=True, slots=True)
class Loop:
    """A run directory and what the command said that made it."""

    path: Path
    ended: Ended

    @property
    def run(self) -> RunFolder:
        return RunFolder.at(self.path)


@pytest.fixture(scope="session")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Loop:
    path = tmp_path_factory.mktemp("loop") / "run"
    ended = command(small_loop(path))
    assert ended.code == 0, ended.err + ended.out
    return Loop(path, ended)
