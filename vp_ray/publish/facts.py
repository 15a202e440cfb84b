"""What the card says of a run, read from what was written and from the manifests; nothing is typed in by hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vp_ray import __version__
from vp_ray.errors import SettingsError
from vp_ray.judging.rubric import Rubric
from vp_ray.publish.layout import Layout
from vp_ray.publish.quality import CheckTable, check_tables
from vp_ray.publish.selection import Selection
from vp_ray.records import ASPECTS, OVERALL, SELF_SUPERVISED
from vp_ray.storage import Manifest, RunFolder

_STAGES: Final = ("prompts", "import", "generate", "annotate", "preferences")
_GENERATOR: Final = ("scheduler", "steps", "guidance_scale", "dtype")
_ANNOTATOR: Final = ("model", "image_side_pixels", "detail", "temperature")
"""The settings that are published; addresses, paths and names of variables stay here."""


@dataclass(frozen=True, slots=True)
class RubricFacts:
    """The guideline that annotators judged by."""

    version: str
    """Name, version and the hash of its whole content."""
    text: str | None
    """None where the rubric's file is not there any more, or has changed since."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Numbers and names for the card."""

    counts: list[tuple[str, dict[str, int]]]
    """Rows by config and split."""
    splits: tuple[str, ...]
    pairs: int
    """Pairs of images, each counted once."""
    choices: int
    """Pairs times the aspects that they are judged by: the rows of `preferences`."""
    ties: int
    constructed: int
    """Choices whose order is known by how the images were made, which nobody judged."""
    by_aspect: list[tuple[str, int, float]]
    """(aspect, choices, share of ties)."""
    same_generator_share: float | None
    image_sizes: list[str]
    generators: list[dict[str, Any]]
    """One a generator: name, images, its settings, mean levels and its win rate over others."""
    annotators: list[dict[str, Any]]
    orders: int | None
    rubric: RubricFacts | None
    statuses: dict[str, int]
    agreement: list[tuple[str, float | None, float | None]]
    """(aspect, flip rate, quadratic kappa) between two orders of the same images."""
    flip_rate: float | None
    level_counts: dict[str, list[int]]
    slot_bias: list[tuple[str, str, list[float]]]
    """(annotator, aspect, effect of each place in levels)."""
    costs: list[tuple[str, float, float]]
    """(stage, US dollars, seconds)."""
    left_out: dict[str, int]
    harmful: int
    quality: list[CheckTable]
    """The checks of the preferences stage, empty where the run has none."""
    code_version: str = __version__

    @property
    def cost_usd(self) -> float:
        """What the whole run paid up to the pairs."""
        return sum(usd for _, usd, _ in self.costs)


def gather(run: RunFolder, selection: Selection, preferences: pa.Table, layout: Layout) -> Facts:
    """The facts of a run of which `layout` has been written."""
    manifests = {name: run.stage(name).manifest() for name in _STAGES}
    annotate = manifests["annotate"]
    figures = annotate.figures if annotate else {}
    splits = tuple(dict.fromkeys(file.split for file in layout.files))
    counts = [
        (config, {split: sum(file.rows for file in files) for split, files in layout.splits(config).items()})
        for config in layout.schemas
    ]
    tied = np.asarray(preferences["probability_a"]) == 0.5
    aspects = np.asarray(preferences["aspect"].to_pylist(), dtype=str)
    shown = [aspect for aspect in (*ASPECTS, OVERALL) if (aspects == aspect).any()]
    same = pc.mean(pc.cast(preferences["same_generator"], pa.float64())).as_py()
    pairs = preferences.group_by(["image_id_a", "image_id_b"]).aggregate([]).num_rows
    flips, kappas = figures.get("flip_rate_by_aspect") or {}, figures.get("kappa_by_aspect") or {}
    return Facts(
        counts=counts,
        splits=splits,
        pairs=pairs,
        choices=preferences.num_rows,
        ties=int(tied.sum()),
        constructed=_constructed(preferences),
        by_aspect=[(name, int((aspects == name).sum()), float(tied[aspects == name].mean())) for name in shown],
        same_generator_share=same,
        image_sizes=_sizes(selection.images),
        generators=list(_generators(selection.images, preferences, manifests)),
        annotators=[
            {"name": item["name"], **{key: item.get(key) for key in _ANNOTATOR}}
            for item in (annotate.settings.get("annotators", []) if annotate else [])
        ],
        orders=annotate.settings.get("orders") if annotate else None,
        rubric=_rubric(run, annotate),
        statuses=dict(annotate.rows) if annotate else {},
        agreement=[(aspect, flips.get(aspect), kappas.get(aspect)) for aspect in ASPECTS if aspect in flips],
        flip_rate=figures.get("flip_rate"),
        level_counts=figures.get("level_counts") or {},
        slot_bias=[
            (annotator, aspect, effects)
            for annotator, by_aspect in (figures.get("slot_bias") or {}).items()
            for aspect, effects in by_aspect.items()
        ],
        costs=[(name, item.cost_usd, item.seconds) for name, item in manifests.items() if item is not None],
        left_out=selection.left_out,
        harmful=selection.harmful,
        quality=_quality(run),
    )


def _constructed(preferences: pa.Table) -> int:
    if "source" not in preferences.column_names:
        return 0
    return int(pc.sum(pc.equal(preferences["source"], SELF_SUPERVISED)).as_py() or 0)


def _sizes(images: pa.Table) -> list[str]:
    sizes = images.group_by(["width", "height"]).aggregate([("image_id", "count")])
    rows = sizes.sort_by([("image_id_count", "descending")]).to_pylist()
    return [f"{row['width']} x {row['height']} ({row['image_id_count']:,})" for row in rows]


def _generators(
    images: pa.Table, preferences: pa.Table, manifests: dict[str, Manifest | None]
) -> Iterator[dict[str, Any]]:
    generate, made = manifests["generate"], manifests["preferences"]
    settings = {item["name"]: item for item in (generate.settings.get("generators", []) if generate else [])}
    levels = made.figures.get("mean_level_by_generator", {}) if made else {}
    rates = _win_rates(preferences)
    counts = images["generator"].value_counts().to_pylist()
    for row in sorted(counts, key=lambda row: str(row["values"])):
        name = row["values"]
        stated = settings.get(name, {})
        yield {
            "name": name,
            "images": row["counts"],
            "source": _public_source(stated.get("source")),
            **{key: stated.get(key) for key in _GENERATOR},
            "levels": levels.get(name, {}),
            "win_rate": rates.get(name),
        }


def _public_source(source: str | None) -> str | None:
    """A model's hub or embedded name; of a path only the last part, since paths tell about machines."""
    if not source or source.startswith("embedded:"):
        return source
    is_hub = source.count("/") == 1 and not source.startswith((".", "/", "~")) and "://" not in source
    return source if is_hub else PurePosixPath(source).name


def _win_rates(preferences: pa.Table) -> dict[str, float]:
    """The mean probability, by generator, that its image is preferred overall to one of another generator."""
    overall = preferences.filter(
        pc.and_(
            pc.equal(preferences["aspect"], OVERALL),
            pc.not_equal(preferences["generator_a"], preferences["generator_b"]),
        )
    )
    probability = np.asarray(overall["probability_a"], np.float64)
    first, second = (np.asarray(overall[f"generator_{side}"].to_pylist(), dtype=str) for side in ("a", "b"))
    rates = {}
    for name in sorted({*first, *second}):
        won = np.concatenate([probability[first == name], 1 - probability[second == name]])
        rates[str(name)] = float(won.mean())
    return rates


def _rubric(run: RunFolder, annotate: Manifest | None) -> RubricFacts | None:
    if annotate is None or not run.stage("annotate").exists("judgements.parquet"):
        return None
    versions = run.stage("annotate").read_table("judgements.parquet", ("rubric_version",))["rubric_version"]
    names = sorted(name for name in versions.unique().to_pylist() if name)
    if not names:
        return None
    try:
        mode = annotate.settings.get("mode", "listwise")
        rubric = Rubric.load(annotate.settings.get("rubric", ""), mode)
        text = rubric.text(mode, rubric.aspects) if [rubric.version] == names else None
    except SettingsError:
        text = None
    return RubricFacts(", ".join(names), text)


def _quality(run: RunFolder) -> list[CheckTable]:
    folder = run.stage("preferences")
    return check_tables(folder.read_json("quality.json")) if folder.exists("quality.json") else []
