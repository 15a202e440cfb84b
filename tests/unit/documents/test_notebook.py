"""The notebook goes from a run directory to plots and a data set, and what is committed shows no machine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[3] / "examples" / "look_at_a_run.ipynb"


def test_it_runs_on_a_small_run_from_the_top(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat", reason="needs nbclient and ipykernel")
    nbclient = pytest.importorskip("nbclient", reason="needs nbclient and ipykernel")
    pytest.importorskip("ipykernel", reason="needs nbclient and ipykernel")
    monkeypatch.setenv("VP_RAY_RUN", str(place / "runs" / "demo"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in cells:
        cell.outputs = []
    nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    assert all(cell.outputs for cell in cells)
    pictures = [out for cell in cells for out in cell.outputs if "image/png" in out.get("data", {})]
    assert len(pictures) >= 5


def test_what_is_committed_was_run_and_names_no_place_of_a_machine() -> None:
    nbformat = pytest.importorskip("nbformat", reason="needs nbformat")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert all(cell.outputs for cell in code)
    told = [
        text
        for cell in code
        for out in cell.outputs
        for text in (out.get("text", ""), *map(str, out.get("data", {}).values()))
        if len(text) < 100_000 or "<table" in text
    ]
    pattern = re.compile(r"(?<![\w.:/])/(?:tmp|home|root|work|usr|mnt|var|opt|Users)/|[A-Z]:\\")
    assert [text for text in told if pattern.search(text)] == []
