"""The page as a reader's browser gets it: complete, accessible, and inert whatever a prompt says."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from vp_ray.report.config import ReportSettings
from vp_ray.report.job import run as write_report
from vp_ray.storage import RunFolder

VOID = {"meta", "link", "img", "br", "input", "hr"}


class Outline(HTMLParser):
    """Every element with its attributes, and the text of the page."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == [], "an element is not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "title"):
            self.words.append(data)

    def all(self, *tags: str) -> Iterator[dict[str, str]]:
        return (attributes for tag, attributes in self.elements if tag in tags)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def _page(run: RunFolder, **settings: Any) -> tuple[Path, Outline]:
    write_report(ReportSettings(**settings), run)
    folder = run.stage("report").local_path
    return folder, Outline((folder / "index.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def page(finished_run: RunFolder) -> tuple[Path, Outline]:
    return _page(finished_run)


def test_every_picture_is_a_file_beside_the_page_with_words_size_and_lazy_loading(page: tuple[Path, Outline]) -> None:
    folder, outline = page
    pictures = list(outline.all("img"))
    assert len(pictures) > 30
    for picture in pictures:
        assert (folder / picture["src"]).is_file()
        assert picture["alt"]
        assert picture["loading"] == "lazy"
        assert int(picture["width"]) > 0
        assert int(picture["height"]) > 0


def test_every_file_is_referred_to_and_every_reference_is_there(page: tuple[Path, Outline]) -> None:
    folder, outline = page
    written = {str(path.relative_to(folder)) for path in (folder / "assets").rglob("*") if path.is_file()}
    named = {e["src"] for e in outline.all("img")} | {e["href"] for e in outline.all("a") if e["href"][0] != "#"}
    assert named == written
    anchors = {e["href"][1:] for e in outline.all("a") if e["href"][0] == "#"}
    assert anchors == {e["id"] for e in outline.all("section")}


def test_the_page_needs_no_network_and_runs_no_script(page: tuple[Path, Outline]) -> None:
    folder, outline = page
    text = (folder / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|//[a-z]+\.|@import|url\(", text)
    assert not list(outline.all("script", "iframe", "object", "embed", "form"))
    policy = next(e["content"] for e in outline.all("meta") if e.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "script-src" not in policy


def test_headings_descend_one_by_one_and_tables_name_their_columns(page: tuple[Path, Outline]) -> None:
    outline = page[1]
    levels = [int(tag[1]) for tag, _ in outline.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(levels))
    assert all(e.get("scope") in ("col", "row") for e in outline.all("th"))
    assert all(e.get("role") == "img" or e.get("aria-hidden") == "true" for e in outline.all("svg"))
    assert next(outline.all("html"))["lang"] == "en"


def test_the_sections_come_in_their_order_with_their_numbers(page: tuple[Path, Outline]) -> None:
    outline = page[1]
    order = [
        "loop",
        "before-after",
        "lineage",
        "comparison",
        "tuning",
        "reward",
        "preferences",
        "annotators",
        "settings",
        "files",
    ]
    assert [e["id"] for e in outline.all("section")] == order
    for words in (
        "Tuning made the model better.",
        "2 refused",
        "The clearest",
        "before tuning",
        "one person against the others",
        "(set, not shown)",
    ):
        assert words in outline.text
    assert "sk-secret" not in outline.text


def test_the_page_is_small(page: tuple[Path, Outline]) -> None:
    folder, _ = page
    assert (folder / "index.html").stat().st_size < 400_000
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 1_500_000


def test_a_hostile_prompt_and_rationale_stay_text(made_run: Callable[..., Any]) -> None:
    made = made_run(6)
    _, outline = _page(made.everything(hostile=True))
    assert not list(outline.all("script"))
    assert not any(name.startswith("on") for _, attributes in outline.elements for name in attributes)
    assert all(e["src"].startswith("assets/") for e in outline.all("img"))
    assert '<script>alert("pwned")</script>"><img src=x onerror=alert(1)> {{ 7 * 7 }} &amp;' in outline.text


def test_an_empty_run_is_a_page_and_no_error(tmp_path: Path) -> None:
    _, outline = _page(RunFolder.at(tmp_path / "nothing"))
    assert "This run has not been evaluated yet. No stage of it is finished." in outline.text
    assert outline.text.count("has not run.") == 6


def test_a_job_without_tuning_has_no_place_for_it(made_run: Callable[..., Any]) -> None:
    made = made_run(3)
    for stage in ("prompts", "generate", "annotate", "preferences", "reward"):
        getattr(made, stage)()
    write_report(ReportSettings(), made.run, ("import", "preferences", "reward"))
    text = (made.run.stage("report").local_path / "index.html").read_text()
    assert "<h1>VP-Score is trained.</h1>" in text
    assert "has not run" not in text.replace('<td><span class="soft">has not run</span>', "", 1)
    assert all(f'id="{name}"' in text for name in ("loop", "reward", "preferences", "annotators"))
    assert not any(f'"#{name}"' in text or f'id="{name}"' in text for name in ("before-after", "comparison", "tuning"))


def test_each_stage_can_be_the_last_one(made_run: Callable[..., Any]) -> None:
    made = made_run(3)
    for stage in ("prompts", "generate", "annotate", "preferences", "reward", "rl"):
        getattr(made, stage)()
        _, outline = _page(made.run)
        assert f"It has come as far as the stage '{stage}'." in outline.text
    assert "VP-Score prefers what the labels prefer on 61.2 %" in outline.text


def test_a_stage_that_goes_on_shows_what_it_has(made_run: Callable[..., Any]) -> None:
    made = made_run(8)
    made.prompts()
    made.rl(epochs=6, finish=False)
    _, outline = _page(made.run)
    assert "The stage rl is not finished; what it has written so far is shown." in outline.text
    assert "after epoch 4" in outline.text


def test_settings_bound_what_is_shown(finished_run: RunFolder) -> None:
    _, outline = _page(finished_run, title="A run & more", pairs=2, lineage=0, preferences=0, grids=0)
    assert len(list(outline.all("img"))) == 4
    assert "Run A run & more" in outline.text


def _luminance(colour: str) -> float:
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_has_a_contrast_of_4_5_in_the_light_and_in_the_dark() -> None:
    style = (files("vp_ray.report") / "templates" / "style.css").read_text(encoding="utf-8")
    blocks = re.findall(r":root \{([^}]*--ground:\s*#[0-9a-f]{6}[^}]*)\}", style)
    assert len(blocks) == 2
    for block in blocks:
        colours = dict(re.findall(r"--([a-z-]+):\s*(#[0-9a-f]{6})", block))
        for ink in ("ink", "soft", "accent", "caution"):
            for ground in ("ground", "raised"):
                high, low = sorted((_luminance(colours[ink]), _luminance(colours[ground])), reverse=True)
                assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, ground)
