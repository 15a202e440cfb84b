"""The page in a real browser: hostile texts stay texts, filters and keys do what they say, and it works from a file."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.browser import CHROMIUM, Tab, browser
from vp_ray.records import OVERALL
from vp_ray.storage import RunFolder
from vp_ray.view.reading import ViewData, read_view
from vp_ray.view.server import serving
from vp_ray.view.static import write_static

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium")

SHOWN = "document.querySelector('#detail h1') && [...document.querySelectorAll('#detail img')].every((i) => i.complete)"
LIST_SHOWN = (
    "document.querySelector('.row:not([hidden]) img')?.complete && document.querySelector('.row .words').textContent"
)


@pytest.fixture(scope="module")
def tab() -> Iterator[Tab]:
    with browser() as one:
        one.look(1300, 900)
        yield one


@pytest.fixture(autouse=True)
def no_complaints(tab: Tab) -> Iterator[None]:
    """Whatever a test does, the console stays silent and nothing is asked of any other place."""
    tab.complaints.clear()
    tab.requests.clear()
    yield
    tab.run("1")
    assert tab.complaints == []
    assert [url for url in tab.requests if not re.match(r"(http://127\.0\.0\.1:|file:///|data:)", url)] == []


@pytest.fixture(scope="module")
def address(data: ViewData) -> Iterator[str]:
    with serving(data, "shapes", 64) as url:
        yield url


@pytest.fixture
def page(tab: Tab, address: str) -> Tab:
    tab.open("about:blank")
    tab.open(address)
    tab.until(SHOWN)
    return tab


def choose(tab: Tab, name: str, value: str) -> int:
    """Sets a filter as a person does, and the number of pairs that pass."""
    tab.run(
        f"{{const f=document.querySelector('[name={name}]'); f.value={json.dumps(value)};"
        "f.dispatchEvent(new Event('input', {bubbles: true}))}"
    )
    tab.until(f"(new URLSearchParams(location.hash.slice(1)).get('{name}') ?? '') === {json.dumps(value)}")
    return int(tab.run("document.querySelector('#count').textContent").split()[0].replace(",", ""))


def shown_pair(tab: Tab) -> int:
    return int(tab.run("new URLSearchParams(location.hash.slice(1)).get('pair')"))


@pytest.mark.parametrize("way", ["served", "file"])
def test_hostile_texts_are_shown_and_never_run(tab: Tab, hostile_run: RunFolder, tmp_path: Path, way: str) -> None:
    data = read_view(hostile_run)
    title = hostile_run.uri.rpartition("/")[2]
    if way == "file":
        _look_at_hostile(tab, write_static(data, title, 64, tmp_path / "page").as_uri(), data, title)
        return
    with serving(data, title, 64) as url:
        _look_at_hostile(tab, url, data, title)


def _look_at_hostile(tab: Tab, url: str, data: ViewData, title: str) -> None:
    tab.open(url)
    tab.until(SHOWN)
    assert tab.until(LIST_SHOWN)
    scripts = tab.run("document.scripts.length")
    prompts = data.prompts["prompt"].to_pylist()
    seen = set()
    for _ in range(len(data.pairs.group_P)):
        seen.add(tab.until("document.querySelector('#detail h1').textContent"))
        tab.press("ArrowDown")
        tab.until(SHOWN)
    assert seen == set(prompts), "every prompt is shown to the letter"
    rationales = tab.run("[...document.querySelectorAll('.rationales li')].map((li) => li.textContent.slice(1))")
    assert rationales
    assert all(text.startswith("</script><script>window.pwned=1") for text in rationales)
    assert tab.run("document.querySelector('#title').textContent") == title
    assert "<script>" in tab.run("document.querySelector('[name=generator]').textContent")
    assert tab.run("window.pwned === undefined")
    assert (
        tab.run("document.querySelectorAll('#detail b i, #detail h1 *, .words *, img[onerror], #title *').length") == 0
    )
    assert tab.run("document.scripts.length") <= scripts
    width = tab.run("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert width <= 0, "a long word does not widen the page"


def test_every_filter_lets_through_what_the_columns_say(page: Tab, data: ViewData) -> None:
    pairs = data.pairs
    one, other = (data.generator_I[side] for side in (pairs.first_P, pairs.second_P))
    margin = np.abs(pairs.margin[OVERALL])
    assert choose(page, "generator", "same") == (one == other).sum() > 0
    assert choose(page, "generator", "different") == (one != other).sum() > 0
    assert choose(page, "generator", "1") == ((one == 1) | (other == 1)).sum() > 0
    assert choose(page, "generator", "") == len(one)
    refused = data.statuses.index("refused")
    has = (data.status_G[pairs.group_P] >> refused) & 1
    assert 0 < choose(page, "status", str(refused)) == has.sum() < len(one)
    choose(page, "status", "")
    for aspect in data.aspects:
        choose(page, "aspect", aspect)
        wanted = (pairs.disagree[aspect] & ~np.isnan(pairs.margin[aspect])).sum()
        assert choose(page, "disagreement", "yes") == wanted > 0
        answered = (~np.isnan(pairs.margin[aspect])).sum()
        assert choose(page, "disagreement", "no") == answered - wanted
        choose(page, "disagreement", "")
    choose(page, "aspect", OVERALL)
    units = np.round(margin / 0.01)
    choose(page, "least", "0.5")
    assert choose(page, "most", "1") == ((units >= 50) & (units <= 100)).sum() > 0
    assert choose(page, "least", "99") == 0
    assert page.run("document.querySelector('.note').textContent") == "No pair passes these filters."
    page.run("document.querySelector('[type=reset]').click()")
    page.until(SHOWN)
    assert page.run("document.querySelector('#count').textContent") == f"{len(one):,} of {len(one):,} pairs"


def test_orders_put_the_largest_or_the_smallest_margin_first(page: Tab, data: ViewData) -> None:
    margin = np.round(np.abs(data.pairs.margin[OVERALL]) / 0.01)
    for order, best in (("largest", margin.max()), ("smallest", margin.min())):
        choose(page, "order", order)
        page.press("Home")
        assert margin[shown_pair(page)] == best
    choose(page, "order", "")
    page.press("Home")
    assert shown_pair(page) == 0


def test_keys_page_through_the_pairs_and_the_pane_follows(page: Tab, data: ViewData) -> None:
    count = len(data.pairs.group_P)
    screen = page.run("Math.floor(document.querySelector('#list').clientHeight / 88) - 1")
    for key, wanted in (
        ("ArrowDown", 1), ("j", 2), ("ArrowUp", 1), ("k", 0), ("ArrowUp", 0), ("PageDown", screen), ("PageUp", 0),
        ("End", count - 1), ("ArrowDown", count - 1), ("Home", 0),
    ):  # fmt: skip
        page.press(key)
        assert shown_pair(page) == wanted, key
    page.press("End")
    last = data.prompts["prompt"][data.prompts.num_rows - 1].as_py()
    page.until(f"document.querySelector('#detail h1').textContent === {json.dumps(last)}")
    page.until("document.querySelector('.row[aria-selected=true] img').complete")
    edges = "(e) => { const { top, bottom } = e.getBoundingClientRect(); return [top, bottom] }"
    row, box = page.run(f"['.row[aria-selected=true]', '#list'].map((q) => document.querySelector(q)).map({edges})")
    assert box[0] - 1 <= row[0] < row[1] <= box[1] + 1
    assert page.run("document.querySelectorAll('.row').length") < 30, "only the rows that are seen exist"


def test_the_pane_shows_levels_rationales_orders_and_roles(page: Tab, data: ViewData, shapes: RunFolder) -> None:
    pair = int(np.flatnonzero(data.pairs.probability[OVERALL] > 0.5)[0])
    page.run(f"location.hash = '#pair={pair}'")
    page.until(f"document.querySelector('#detail .eyebrow').textContent.startsWith('Pair {pair + 1:,} of')")
    ids = data.images["image_id"].to_pylist()
    start = data.start_G[data.pairs.group_P[pair]]
    preferred = page.run(
        "[...document.querySelectorAll('#detail thead th')].findIndex((th) => th.className === 'preferred')"
    )
    assert start + preferred == data.pairs.first_P[pair]
    prompt_id = data.prompts["prompt_id"][int(data.pairs.group_P[pair])].as_py()
    stored = [
        row
        for row in shapes.stage("annotate").read_table("judgements.parquet").to_pylist()
        if row["prompt_id"] == prompt_id
    ]
    chips = page.run("[...document.querySelectorAll('.level')].map((c) => c.textContent)")
    names = ids[start : start + 4]
    wanted = [
        next((str(e["level"]) for e in row["levels"] if e["image_id"] == name and e["aspect"] == aspect), "–")
        for aspect in ("prompt_following", "aesthetic", "fidelity", "harmlessness")
        for name in names
        for row in stored
    ]
    assert chips == wanted
    orders = page.run("[...document.querySelectorAll('.judgements li')].map((li) => li.textContent)")
    for line, row in zip(orders, stored, strict=True):
        places = " ".join(str(names.index(image_id) + 1) for image_id in row["order"])
        assert line.endswith(f"{row['annotator']}: {row['status']}, shown in the order {places}")
    said = page.run("getComputedStyle(document.querySelector('.rationales')).display")
    page.press("r")
    assert (said, page.run("getComputedStyle(document.querySelector('.rationales')).display")) == ("block", "none")
    page.press("r")


def test_harmful_pictures_are_blurred_until_asked_for(page: Tab, data: ViewData) -> None:
    harmful = np.flatnonzero(data.blurred_I[data.pairs.first_P])[0]
    page.run(f"location.hash = '#pair={harmful}'")
    page.until("document.querySelector('#detail .blurred img') !== null")
    blur = "getComputedStyle(document.querySelector('#detail .blurred img')).filter"
    assert page.run(blur) == "blur(14px)"
    page.press("b")
    assert page.run(blur) == "none"
    page.press("b")


def test_an_address_with_filters_brings_them_back(tab: Tab, address: str, data: ViewData) -> None:
    tab.open("about:blank")
    tab.open(f"{address}#aspect=fidelity&generator=different&order=largest")
    tab.until(SHOWN)
    values = tab.run("['aspect', 'generator', 'order'].map((n) => document.querySelector(`[name=${n}]`).value)")
    assert values == ["fidelity", "different", "largest"]
    margin = np.where(data.generator_I[data.pairs.first_P] == data.generator_I[data.pairs.second_P], -1, 1) * np.abs(
        data.pairs.margin["fidelity"]
    )
    assert np.abs(data.pairs.margin["fidelity"][shown_pair(tab)]) == pytest.approx(np.nanmax(margin), abs=0.0051)


def test_a_written_page_works_from_a_file_and_is_refused_where_something_lies(
    tab: Tab, shapes: RunFolder, tmp_path: Path
) -> None:
    data = read_view(shapes, 3)
    path = write_static(data, "shapes", 24, tmp_path / "page")
    tab.open(path.as_uri())
    tab.until(SHOWN)
    assert "3 of its 20 prompts" in tab.run("document.querySelector('.eyebrow').textContent")
    assert tab.run("[...document.querySelectorAll('#detail img')].map((i) => i.naturalWidth)") == [24] * 4
    tab.press("End")
    tab.until(f"document.querySelector('#detail .eyebrow').textContent.startsWith('Pair {len(data.pairs.group_P)} of')")
    tab.until(SHOWN)
    thumbs = list((path.parent / "thumbs").rglob("*.webp"))
    assert len(thumbs) == 12
    with pytest.raises(Exception, match="this is not an empty folder"):
        write_static(data, "shapes", 24, tmp_path / "page")


def picture_of(tab: Tab) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(tab.screenshot())).convert("RGB")).astype(int)


def test_it_is_dark_in_the_dark_and_fits_a_phone(page: Tab) -> None:
    try:
        page.look(1300, 900, dark=True)
        assert np.median(picture_of(page)) < 60
        page.look(390, 800)
        for detailed in (False, True):
            if detailed:
                page.press("Enter")
                page.until("getComputedStyle(document.querySelector('#detail')).display === 'block'")
            shown: Any = page.run("[document.documentElement.scrollWidth, innerWidth]")
            assert shown[0] <= shown[1], "nothing reaches beyond the screen"
            assert np.median(picture_of(page)) > 235
        page.press("Escape")
        assert page.run("getComputedStyle(document.querySelector('#detail')).display") == "none"
    finally:
        page.look(1300, 900)


def test_its_colours_are_those_of_the_report() -> None:
    root = Path(__file__).parents[3] / "vp_ray"
    sheets = [(root / place).read_text() for place in ("view/templates/view.css", "report/templates/style.css")]
    ours, theirs = (re.findall(r"--[a-z-]+: #[0-9a-f]+", sheet.partition("*, *::before")[0]) for sheet in sheets)
    assert ours == theirs
    assert len(ours) == 16
