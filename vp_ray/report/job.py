"""Wires the report stage: reads the run, writes one page and its pictures."""

from __future__ import annotations

from collections.abc import Sequence

from vp_ray.report.assets import Assets
from vp_ray.report.config import ReportSettings
from vp_ray.report.page import gather, render
from vp_ray.report.reading import LOOP, RunReader
from vp_ray.storage import RunFolder, StageOutcome
from vp_ray.telemetry import progress

PAGE = "index.html"


def run(settings: ReportSettings, run: RunFolder, planned: Sequence[str] = LOOP) -> StageOutcome:
    """Writes `report/index.html` and `report/assets/`; stages that are `planned` but missing are only named there."""
    folder = run.stage("report").make()
    assets = Assets(folder, settings.image_side_pixels)
    with progress("report", "pictures") as bar:
        page = gather(settings, RunReader(run, tuple(planned)), assets)
        folder.write_bytes(PAGE, render(page).encode())
        bar.update(len(assets.pictures))
    return StageOutcome(
        rows={"pictures": len(assets.pictures), "problems": len(page.problems)},
        figures={"page": f"{folder.uri}/{PAGE}", "verdict": page.headline.verdict},
    )
