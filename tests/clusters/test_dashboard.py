"""The Grafana dashboard: its layout, and that its queries ask for what is counted."""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DASHBOARD = json.loads((ROOT / "clusters" / "grafana" / "vp_ray.json").read_text())


def test_the_dashboard_is_one_that_grafana_takes() -> None:
    panels = DASHBOARD["panels"]
    numbers = [panel["id"] for panel in panels]
    assert len(set(numbers)) == len(numbers)
    places = [tuple(panel["gridPos"][key] for key in "xywh") for panel in panels]
    assert all(x + w <= 24 for x, _, w, _ in places)
    for one, (x, y, w, h) in enumerate(places):
        for a, b, c, d in places[:one]:
            assert x + w <= a or a + c <= x or y + h <= b or b + d <= y, "two panels lie on each other"
    assert {variable["name"] for variable in DASHBOARD["templating"]["list"]} == {"datasource", "run", "stage"}
    assert all(panel["type"] == "row" or panel["targets"] for panel in panels)


def test_every_metric_of_the_dashboard_is_one_that_the_documents_explain() -> None:
    documents = (ROOT / "docs" / "operations.md").read_text()
    asked = {
        name
        for panel in DASHBOARD["panels"]
        for target in panel.get("targets", ())
        for name in re.findall(r"\bray_(vp_ray_[a-z_]+)", target["expr"])
    }
    assert len(asked) > 25
    for name in asked:
        plain = re.sub(r"_(total|bucket|sum|count)$", "", name) if "stage_total" not in name else name
        column = re.match(r"vp_ray_(rl|reward)_", plain)
        assert f"`{plain}`" in documents or column, name
