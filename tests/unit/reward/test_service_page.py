"""The service's page in a real browser: a dropped image and a prompt become bars, and texts stay texts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.browser import CHROMIUM, Tab, browser
from tests.local_service import serving
from vp_ray.models.reward import VPScore
from vp_ray.reward.api import Access

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium")

PROMPT = "<img src=x onerror=alert(1)> a red circle"
HOSTILE = "<img src=x onerror=alert(2)>.png"
BARS = "[...document.querySelectorAll('.image')].map(i => [...i.querySelectorAll('output')].map(o => o.textContent))"
READY = "document.querySelector('#model').options.length > 0"


@pytest.fixture(scope="module")
def model(tiny_blip: Path) -> VPScore:
    return VPScore.from_backbone(str(tiny_blip)).eval()


@pytest.fixture(scope="module")
def url(model: VPScore, tiny_blip: Path) -> Iterator[str]:
    with serving({"ours": model, "<b>other</b>": VPScore.from_backbone(str(tiny_blip), seed=1).eval()}) as (found, _):
        yield f"{found}/"


@pytest.fixture(scope="module")
def tab() -> Iterator[Tab]:
    with browser() as one:
        one.look(1200, 900)
        yield one


@pytest.fixture(autouse=True)
def no_complaints(tab: Tab) -> Iterator[None]:
    """Whatever a test does, the console stays silent and nothing is asked of any other place."""
    tab.complaints.clear()
    tab.requests.clear()
    yield
    tab.run("1")
    assert tab.complaints == []
    assert [url for url in tab.requests if not re.match(r"(http://127\.0\.0\.1:|blob:|data:)", url)] == []


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[np.ndarray, list[str]]:
    """Two pictures and their paths; the second one's name tries to become markup."""
    folder = tmp_path_factory.mktemp("pictures")
    pixels = np.random.default_rng(3).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    names = [str(folder / "first.png"), str(folder / HOSTILE)]
    for image, name in zip(pixels, names, strict=True):
        Image.fromarray(image).save(name)
    return pixels, names


def write(tab: Tab, prompt: str) -> None:
    tab.run(f"document.querySelector('#prompt').value = {json.dumps(prompt)}")


def drop(tab: Tab, paths: list[str]) -> None:
    """Lets go of files over the page, as a person does."""
    middle = "(r => [r.x + r.width / 2, r.y + r.height / 2])(document.querySelector('#drop').getBoundingClientRect())"
    box = tab.run(middle)
    data = {"items": [], "files": paths, "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        tab.send("Input.dispatchDragEvent", type=kind, x=box[0], y=box[1], data=data)


def shown(model: VPScore, pixels: np.ndarray, prompt: str) -> list[list[str]]:
    scores = model.score(pixels, [prompt] * len(pixels))
    rows = np.column_stack([model.overall(scores), scores])
    return [[f"{value:.2f}".replace("-", "\u2212") for value in row] for row in rows]


def test_dropped_images_and_a_prompt_become_the_scores_of_the_class(
    tab: Tab, url: str, model: VPScore, files: tuple[np.ndarray, list[str]]
) -> None:
    tab.open(url)
    tab.until(READY)
    write(tab, PROMPT)
    drop(tab, files[1])
    tab.until("document.querySelectorAll('output').length === 10")
    assert tab.run(BARS) == shown(model, files[0], PROMPT)
    assert tab.run("[...document.querySelectorAll('figcaption')].map(c => c.textContent)") == ["first.png", HOSTILE]
    assert "2 images by ours" in tab.run("document.querySelector('#status').textContent")
    assert tab.run("document.querySelectorAll('img[onerror]').length") == 0


def test_another_prompt_and_model_are_asked_by_the_button(
    tab: Tab, url: str, files: tuple[np.ndarray, list[str]]
) -> None:
    tab.open("about:blank")
    tab.open(url)
    tab.until(READY)
    drop(tab, files[1][:1])
    tab.until("document.querySelector('#status').textContent.startsWith('Write the prompt')")
    write(tab, "two blue squares")
    tab.run("document.querySelector('#send').click()")
    tab.until("document.querySelectorAll('output').length === 5")
    first = tab.run(BARS)
    tab.run("document.querySelector('#model').selectedIndex = 1; document.querySelector('#send').click()")
    tab.until("document.querySelector('#status').textContent.includes('<b>other</b>')")
    assert tab.run(BARS) != first


def test_a_file_that_is_no_image_and_a_broken_one_say_so(tab: Tab, url: str, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("hello")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nhello")
    tab.open("about:blank")
    tab.open(url)
    tab.until(READY)
    drop(tab, [str(tmp_path / "note.txt")])
    tab.until("document.querySelector('#status').textContent === 'That is no image.'")
    write(tab, "a red circle")
    drop(tab, [str(tmp_path / "broken.png")])
    tab.until("document.querySelector('.image .caution') !== null")
    assert "cannot be read" in tab.run("document.querySelector('.image .caution').textContent")


def test_it_is_dark_in_the_dark_and_fits_a_phone(tab: Tab, url: str, files: tuple[np.ndarray, list[str]]) -> None:
    wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
    colours = []
    for dark in (False, True):
        tab.look(390, 844, dark)
        for path in ("docs", ""):
            tab.open("about:blank")
            tab.open(url + path)
            assert not tab.run(wide)
        tab.until(READY)
        write(tab, "a red circle")
        drop(tab, files[1])
        tab.until("document.querySelectorAll('output').length === 10")
        assert not tab.run(wide)
        colours.append(tab.run("getComputedStyle(document.body).backgroundColor"))
    tab.look(1200, 900)
    assert colours == ["rgb(253, 253, 252)", "rgb(19, 20, 23)"]


def test_the_reference_shows_routes_bodies_and_every_type_of_error(tab: Tab, url: str) -> None:
    tab.open(f"{url}docs")
    text = tab.run("document.body.textContent")
    for part in ("/v1/score", "multipart/form-data", "unreadable_image", "Bearer", "ScoreResponse"):
        assert part in text


def test_where_a_token_is_needed_the_page_asks_for_it(model: VPScore, files: tuple[np.ndarray, list[str]]) -> None:
    with browser() as tab, serving({"ours": model}, access=Access(token="s3cret")) as (url, _):
        tab.open(f"{url}/")
        tab.until("!document.querySelector('#tokens').hidden")
        write(tab, "a red circle")
        drop(tab, files[1][:1])
        tab.until("document.querySelector('#status').textContent.startsWith('The token is missing or wrong')")
        tab.run("document.querySelector('#token').value = 's3cret'; document.querySelector('#send').click()")
        tab.until("document.querySelectorAll('output').length === 5")
        assert [text for text in tab.complaints if "401" not in text] == []
