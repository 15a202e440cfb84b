"""One way of drawing: the pairs of both models, drawn, scored and judged; every step goes on from the files there are.

FOLDER/images/*.parquet          one shard of one model, drawn
FOLDER/scores_of/NAME/*.parquet  a scorer's scores of one shard of pairs; VP-Score's are in FOLDER/vp_scores
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from vp_ray.distributed.metrics import AnswerMetrics, ImageMetrics
from vp_ray.distributed.shards import run_shards
from vp_ray.evaluate.config import VP_SCORE, EvaluateSettings
from vp_ray.evaluate.drawing import ModelShardMaker
from vp_ray.evaluate.panel import Pair, Panel
from vp_ray.evaluate.planning import Drawing, choose_prompts, pair_images, plan_drawings
from vp_ray.evaluate.scoring import scores_by_judges, scores_by_model, scores_by_scorer, scoring_device
from vp_ray.judging.ledger import answered, read_ledger
from vp_ray.models.reward import VPScore
from vp_ray.models.scorers import load_scorer
from vp_ray.records import SCORES, ImageStatus
from vp_ray.storage import Folder, RunFolder
from vp_ray.telemetry import progress

Drawings = tuple[Drawing, Drawing]
Score = Callable[[Sequence[Mapping[str, Any]]], pa.Table]

_WITHOUT_PIXELS: Final = ["image_id", "prompt_id", "prompt", "generator", "seed", "status"]
_SCORES_OF: Final = "scores_of"


@dataclass(frozen=True, slots=True)
class Compared:
    """What one way of drawing gave."""

    prompts: list[Mapping[str, Any]]
    drawn: list[dict[str, Any]]
    """Rows of `records.IMAGES` of both models, without pixels."""
    scores: pa.Table
    """`records.SCORES`, the judges' first."""
    judgements: pa.Table
    """`records.JUDGEMENTS`; empty without judges."""
    images_per_second: float | None
    traffic: dict[str, Any] | None


def compare_one_way(
    settings: EvaluateSettings, run: RunFolder, folder: Folder, ledger: Folder, embedded_url: str | None
) -> Compared:
    """Draws, scores and judges in `folder`; `ledger` keeps the judges' answers, of other ways of drawing, too."""
    images = (folder / "images").make()
    prompts = choose_prompts(run.source("prompts").read_table("prompts.parquet").to_pylist(), settings)
    drawings = plan_drawings(prompts, settings, *_adapter(settings, run))
    images_per_second = _draw(settings, drawings, images)
    tables = [_scored(name, scorer, drawings, images, place) for name, scorer, place in _scorers(settings, run, folder)]
    drawn = images.read_table(".", _WITHOUT_PIXELS).to_pylist()
    made = _made_pairs(drawn)
    panel = Panel(settings, ledger.make(), embedded_url, AnswerMetrics)
    _judge(panel, made, drawings, images, ledger)
    judgements = _judgements(panel, made, ledger)
    by_id = {row["image_id"]: row for row in drawn}
    weights = {str(name): value for name, value in settings.weights.items()}
    judged = scores_by_judges(judgements.to_pylist(), by_id, weights)
    return Compared(prompts, drawn, pa.concat_tables([judged, *tables]), judgements, images_per_second, panel.traffic())


def _adapter(settings: EvaluateSettings, run: RunFolder) -> tuple[str, str]:
    """Where the adapter lies, and what names its content; both empty where another model stands in its place."""
    if settings.tuned is not None:
        return "", ""
    if settings.adapter is not None:
        return settings.adapter, settings.adapter
    stage = run.stage("rl")
    return (stage / "adapter").uri, stage.finished().fingerprint


def _scorers(
    settings: EvaluateSettings, run: RunFolder, folder: Folder
) -> Iterator[tuple[str, Callable[[], Score], Folder]]:
    """(name, what loads it, where its scores go) of VP-Score and the further scorers."""
    device = scoring_device(settings)
    if settings.vp_score:
        run.stage("reward").finished()
        checkpoint = (run.stage("reward") / "checkpoint").uri

        def vp_score() -> Score:
            model = VPScore.from_pretrained(checkpoint).to(device)
            return lambda images: scores_by_model(model, images)

        yield VP_SCORE, vp_score, folder / "vp_scores"
    for name, spec in settings.scorers.items():

        def other(name: str = name, spec: str = spec) -> Score:
            scorer = load_scorer(spec, device)
            return lambda images: scores_by_scorer(name, scorer, images)

        yield name, other, folder / _SCORES_OF / name


def _draw(settings: EvaluateSettings, drawings: Drawings, images: Folder) -> float | None:
    """Draws the shards that are not there; images a second, or None where nothing was to do."""
    shards = [shard | {"model": drawing.model.name} for drawing in drawings for shard in drawing.shards]
    done = set(images.listed())
    total = sum(len(shard["rows"]) for shard in shards)
    made = before = sum(len(shard["rows"]) for shard in shards if shard["file"] in done)
    started = time.monotonic()
    with progress("evaluate", "images", total) as bar:
        bar.update(made)

        counted = ImageMetrics()

        def count(result: Mapping[str, Any]) -> None:
            nonlocal made
            made += result["rows"]
            counted.shard(result["model"], result)
            bar.update(made, note=result["model"])

        generators = {drawing.model.name: drawing.model.model_dump(mode="json") for drawing in drawings}
        missing = [shard for shard in shards if shard["file"] not in done]
        arguments = {"generators": generators, "folder": images.uri}
        run_shards(missing, ModelShardMaker, arguments, settings.pool, "evaluate", count)
    images.seal(shard["file"] for shard in shards)
    return (made - before) / (time.monotonic() - started) if made > before else None


def _made_pairs(rows: Sequence[Mapping[str, Any]]) -> list[Pair]:
    return [pair for pair in pair_images(rows) if all(row["status"] == ImageStatus.MADE for row in pair)]


def _pairs_of(shards: tuple[Mapping[str, Any], Mapping[str, Any]], images: Folder) -> list[Pair]:
    """The pairs of two shards that hold the same prompts, with their pixels."""
    return _made_pairs([row for shard in shards for row in images.read_table(shard["file"]).to_pylist()])


def _scored(name: str, load: Callable[[], Score], drawings: Drawings, images: Folder, scores: Folder) -> pa.Table:
    """A scorer's scores of every pair; those of shards that have none yet are made."""
    done = set(scores.make().listed())
    both = zip(*(drawing.shards for drawing in drawings), strict=True)
    missing = [shards for shards in both if shards[0]["file"] not in done]
    if missing:
        score = load()
        with progress("evaluate", f"shards scored by {name}", len(missing)) as bar:
            for number, shards in enumerate(missing, start=1):
                rows = [row for pair in _pairs_of(shards, images) for row in pair]
                scores.write_table(shards[0]["file"], score(rows), SCORES)
                bar.update(number)
    scores.seal(shard["file"] for shard in drawings[0].shards)
    return scores.read_table(".")


def _judge(panel: Panel, made: Sequence[Pair], drawings: Drawings, images: Folder, ledger: Folder) -> None:
    """Asks the judges what the ledger does not answer; pixels are read a shard at a time."""
    done = answered(ledger)
    lacking = {pair[0]["image_id"] for pair in made if not done.issuperset(panel.planned([pair]))}
    if not lacking:
        return

    def with_pixels() -> Iterator[Pair]:
        for both in zip(*(drawing.shards for drawing in drawings), strict=True):
            if any(row["image_id"] in lacking for row in both[0]["rows"]):
                yield from (pair for pair in _pairs_of(both, images) if pair[0]["image_id"] in lacking)

    planned = panel.planned(made)
    answers = len(done.intersection(planned))
    with progress("evaluate", "answers", len(planned)) as bar:
        bar.update(answers)
        for more in panel.ask(with_pixels()):
            answers += more
            bar.update(answers)


def _judgements(panel: Panel, made: Sequence[Pair], ledger: Folder) -> pa.Table:
    """The judgements of these pairs in their order; empty without judges."""
    found = read_ledger(ledger)
    places = {name: place for place, name in enumerate(found["judgement_id"].to_pylist())}
    kept = [places[name] for name in panel.planned(made) if name in places]
    return found.take(pa.array(kept, pa.int64()))
