"""One exported data set for the tests that only read it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.judged_runs import judged_run
from vp_ray.publish.config import ExportSettings
from vp_ray.publish.job import Exported, export
from vp_ray.storage import RunFolder


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Forty prompts of four images in several splits."""
    return judged_run(tmp_path_factory.mktemp("publish") / "shapes", 40)


@pytest.fixture(scope="session")
def exported(finished_run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The run with small row groups and the settings that a careful publisher gives."""
    settings = ExportSettings(licence="cc-by-4.0", image_terms="free | to <use>", rows_per_row_group=16)
    return export(settings, finished_run, Path(tmp_path_factory.mktemp("exported")) / "shapes")
