"""Wires `vp-ray view`: reads a run, then serves its page or writes it."""

from __future__ import annotations

import threading
import webbrowser
from collections.abc import Callable
from pathlib import Path

from vp_ray.storage import RunFolder
from vp_ray.view.reading import read_view
from vp_ray.view.server import serving
from vp_ray.view.static import write_static


def title_of(run: RunFolder) -> str:
    """The run directory's name."""
    return run.uri.rstrip("/").rpartition("/")[2]


def view(run: RunFolder, port: int, side: int, open_browser: bool, tell: Callable[[str], None]) -> None:
    """Serves the page of a run until Ctrl-C, and opens it in the browser where one is wanted and there."""
    data = read_view(run)
    with serving(data, title_of(run), side, port) as address:
        tell(f"{address}  shows {len(data.pairs.group_P):,} pairs; Ctrl-C ends it")
        if open_browser:
            webbrowser.open(address)
        threading.Event().wait()


def view_static(run: RunFolder, out: Path, side: int, most_prompts: int | None, open_browser: bool) -> Path:
    """Writes the page of a run, or of some of its prompts, and opens it."""
    page = write_static(read_view(run, most_prompts), title_of(run), side, out)
    if open_browser:
        webbrowser.open(page.as_uri())
    return page
