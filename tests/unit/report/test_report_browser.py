"""The page in a real browser: every picture loads, nothing runs, and it fits a phone."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.accessibility import violations
from tests.browser import browser
from vp_ray.report.config import ReportSettings
from vp_ray.report.job import run as write_report

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run", "--hide-scrollbars", "--disable-dev-shm-usage",
)  # fmt: skip

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium")


def _browse(page: Path, work: Path, *flags: str) -> str:
    """What the browser printed."""
    profile = work / f"profile-{len(list(work.iterdir()))}"
    profile.mkdir()
    done = subprocess.run(
        [str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}", *flags, page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env={**os.environ, "HOME": str(profile)},
    )
    return done.stdout


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, module_run: Callable[..., Any]) -> Path:
    run = module_run(tmp_path_factory.mktemp("browser") / "hostile", 8).everything(hostile=True)
    write_report(ReportSettings(pairs=4, preferences=1), run)
    path: Path = run.stage("report").local_path / "index.html"
    return path


def test_a_hostile_page_runs_nothing_and_keeps_its_title(page: Path, tmp_path: Path) -> None:
    document = _browse(page, tmp_path, "--dump-dom", "--virtual-time-budget=3000")
    assert "Tuning made the model better." in document
    assert "&lt;script&gt;alert" in document
    assert not re.search(r"<script|onerror=alert\(1\)>\s*<", document)


def test_the_page_shows_its_pictures_and_fits_the_width_of_a_phone(page: Path, tmp_path: Path) -> None:
    picture = tmp_path / "phone.png"
    _browse(page, tmp_path, f"--screenshot={picture}", "--window-size=500,3600")
    pixels = np.asarray(Image.open(picture).convert("RGB")).astype(int)
    assert pixels.shape == (3600, 500, 3)
    ground = pixels[2, 2]
    assert ground.min() > 240, "without a preference the page is light"
    edge = np.abs(pixels[:, -6:] - ground).max(axis=(1, 2)) > 12
    assert not edge.any(), "something reaches beyond the right margin"
    colourful = (pixels.max(axis=2) - pixels.min(axis=2)) > 90
    assert colourful.mean() > 0.02, "the pictures are not there"


@pytest.mark.parametrize(("width", "dark"), [(1200, False), (1200, True), (390, False)])
def test_axe_finds_nothing_the_console_is_silent_and_nothing_is_fetched(page: Path, width: int, dark: bool) -> None:
    with browser() as tab:
        tab.look(width, 900, dark)
        tab.open(page.as_uri())
        tab.run("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert tab.run("document.documentElement.scrollWidth") <= width
        assert violations(tab) == []
        assert tab.complaints == []
        folder = page.parent.as_uri()
        assert [address for address in tab.requests if not address.startswith((folder, "data:"))] == []


def test_printed_it_has_pages_and_no_links_to_sections(page: Path) -> None:
    with browser() as tab:
        tab.open(page.as_uri())
        printed = base64.b64decode(tab.send("Page.printToPDF", printBackground=False)["data"])
        assert printed.startswith(b"%PDF")
        tab.send("Emulation.setEmulatedMedia", media="print")
        assert tab.run("getComputedStyle(document.querySelector('nav')).display") == "none"
        assert tab.run("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"


def test_dark_mode_is_dark(page: Path, tmp_path: Path) -> None:
    picture = tmp_path / "dark.png"
    flags = ("--force-dark-mode", "--blink-settings=preferredColorScheme=0", "--window-size=900,700")
    _browse(page, tmp_path, f"--screenshot={picture}", *flags)
    assert float(np.asarray(Image.open(picture).convert("L")).mean()) < 80
