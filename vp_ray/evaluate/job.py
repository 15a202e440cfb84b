"""Wires the evaluate stage: draw with both models, score, have the pairs judged, compare.

evaluate/images/*.parquet      one shard of one model, drawn
evaluate/vp_scores/*.parquet   VP-Score's scores of one shard of pairs
evaluate/ledger/*.jsonl        every answer of a judge
evaluate/{judgements,scores,comparison}.parquet
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from vp_ray.distributed.shards import run_shards
from vp_ray.evaluate.comparison import agreement, compare, pair_up
from vp_ray.evaluate.config import VP_SCORE, EvaluateSettings
from vp_ray.evaluate.drawing import ModelShardMaker
from vp_ray.evaluate.panel import Pair, Panel
from vp_ray.evaluate.planning import Drawing, choose_prompts, pair_images, plan_drawings
from vp_ray.evaluate.scoring import scores_by_judges, scores_by_model
from vp_ray.judging.costs import costs_by_day
from vp_ray.judging.ledger import answered, read_ledger, spent_usd
from vp_ray.models.reward import VPScore
from vp_ray.records import COMPARISON, JUDGEMENTS, SCORES, ImageStatus
from vp_ray.storage import Folder, RunFolder, StageOutcome
from vp_ray.telemetry import progress

Drawings = tuple[Drawing, Drawing]

_WITHOUT_PIXELS = ["image_id", "prompt_id", "prompt", "generator", "seed", "status"]


def run(settings: EvaluateSettings, run: RunFolder, embedded_url: str | None) -> StageOutcome:
    """Compares the tuned model with its base; every step goes on from the files that are there.

    `embedded_url` is the address of the pipeline's own judge, for judges that name it. Pairs of which an image was not
    made, or that no judge scored, are counted and left out.
    """
    folder = run.stage("evaluate").make()
    images = (folder / "images").make()
    prompts = choose_prompts(run.source("prompts").read_table("prompts.parquet").to_pylist(), settings)
    drawings = plan_drawings(prompts, settings, *_adapter(settings, run))
    images_per_second = _draw(settings, drawings, images)
    if settings.vp_score:
        _score(run, drawings, images, (folder / "vp_scores").make())
    drawn = images.read_table(".", _WITHOUT_PIXELS).to_pylist()
    made = _made_pairs(drawn)
    panel = Panel(settings, (folder / "ledger").make(), embedded_url)
    _judge(panel, made, drawings, images, folder / "ledger")
    judgements = _judgements(panel, made, folder / "ledger")

    tables = [(folder / "vp_scores").read_table(".")] if settings.vp_score else []
    by_id = {row["image_id"]: row for row in drawn}
    judged = scores_by_judges(
        judgements.to_pylist(), by_id, {str(name): value for name, value in settings.weights.items()}
    )
    scores = pa.concat_tables([judged, *tables])
    judges = [judge.name for judge in settings.judges]
    pairs = pair_up(scores)
    comparison = compare(pairs, judges, settings.seed)
    folder.write_table("judgements.parquet", judgements, JUDGEMENTS)
    folder.write_table("scores.parquet", scores, SCORES)
    folder.write_table("comparison.parquet", pa.Table.from_pylist(comparison, schema=COMPARISON))
    return StageOutcome(
        rows=dict(Counter(row["status"] for row in drawn) + Counter(judgements["status"].to_pylist())),
        cost_usd=spent_usd(folder / "ledger"),
        figures={
            "comparison": comparison,
            "agreement": agreement(pairs, VP_SCORE, judges, settings.seed),
            "prompts": len(prompts),
            "pairs": len(drawn) // 2,
            "images_per_second": images_per_second,
            "traffic": panel.traffic(),
            "costs": [asdict(day) for day in costs_by_day(folder / "ledger", settings.judges)],
        },
    )


def _adapter(settings: EvaluateSettings, run: RunFolder) -> tuple[str, str]:
    """Where the adapter lies, and what names its content."""
    if settings.adapter is not None:
        return settings.adapter, settings.adapter
    stage = run.stage("rl")
    return (stage / "adapter").uri, stage.finished().fingerprint


def _draw(settings: EvaluateSettings, drawings: Drawings, images: Folder) -> float | None:
    """Draws the shards that are not there; images a second, or None where nothing was to do."""
    shards = [shard | {"model": drawing.model.name} for drawing in drawings for shard in drawing.shards]
    done = set(images.listed())
    total = sum(len(shard["rows"]) for shard in shards)
    made = before = sum(len(shard["rows"]) for shard in shards if shard["file"] in done)
    started = time.monotonic()
    with progress("evaluate", "images", total) as bar:
        bar.update(made)

        def count(result: Mapping[str, Any]) -> None:
            nonlocal made
            made += result["rows"]
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


def _score(run: RunFolder, drawings: Drawings, images: Folder, scores: Folder) -> None:
    """VP-Score's scores of every pair of shards that has none yet."""
    checkpoint = run.stage("reward") / "checkpoint"
    run.stage("reward").finished()
    done = set(scores.listed())
    missing = [
        both for both in zip(*(drawing.shards for drawing in drawings), strict=True) if both[0]["file"] not in done
    ]
    if missing:
        model = VPScore.from_pretrained(checkpoint.uri)
        with progress("evaluate", "shards scored", len(missing)) as bar:
            for number, both in enumerate(missing, start=1):
                rows = [row for pair in _pairs_of(both, images) for row in pair]
                scores.write_table(both[0]["file"], scores_by_model(model, rows), SCORES)
                bar.update(number)
    scores.seal(shard["file"] for shard in drawings[0].shards)


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
