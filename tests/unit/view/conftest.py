"""Runs that the viewer's tests look at."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from tests.judged_runs import judged_run
from vp_ray.records import IMAGES, PROMPTS
from vp_ray.storage import RunFolder
from vp_ray.view.reading import ViewData, read_view

HOSTILE = (
    "</script><script>window.pwned=1;alert('pwned')</script>\"><img src=x onerror=window.pwned=2> ${alert(3)} "
    "{{ 7 * 7 }} &amp;<b>bold</b> javascript:alert(4) \u2028\u2029\u202e\\';\n// " + "x" * 300
)


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Twenty prompts of four images, two annotators, two orders."""
    return judged_run(tmp_path_factory.mktemp("view") / "shapes", 20)


@pytest.fixture(scope="session")
def data(shapes: RunFolder) -> ViewData:
    return read_view(shapes)


@pytest.fixture(scope="session")
def hostile_run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run whose prompts, rationales, names of generators and own name try to become markup or code."""
    name = "<img src=x onerror=alert(5)>&lt;"
    run = judged_run(tmp_path_factory.mktemp("hostile") / name, 6, rationale=HOSTILE)
    prompts = run.stage("prompts").read_table("prompts.parquet").to_pylist()
    for number, row in enumerate(prompts):
        row["prompt"] = f"{number} {HOSTILE}"
        row["split"] = "<i>train</i>"
    run.stage("prompts").write_table("prompts.parquet", pa.Table.from_pylist(prompts, schema=PROMPTS))
    images = run.stage("generate") / "images"
    for part in images.names():
        rows = [row | {"generator": f"{row['generator']}{HOSTILE}"} for row in images.read_table(part).to_pylist()]
        images.write_table(part, pa.Table.from_pylist(rows, schema=IMAGES))
    return run


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "page"
