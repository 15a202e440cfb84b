"""Hours and dollars of a whole job before it starts, from stated speeds, list prices, and what the run has measured."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from PIL import Image

from vp_ray.annotate.config import AnnotateSettings
from vp_ray.annotate.planning import asked_of, shown_orders
from vp_ray.evaluate.config import EvaluateSettings
from vp_ray.generate.config import GenerateSettings
from vp_ray.generate.planning import estimate as generator_estimate
from vp_ray.generate.planning import read_measured
from vp_ray.judging.config import CLUSTER, AnnotatorSettings
from vp_ray.judging.prices import price_of
from vp_ray.judging.requests import Question, message
from vp_ray.judging.rubric import Rubric
from vp_ray.judging.schemas import Asked
from vp_ray.pipeline.estimate_config import EstimateSettings
from vp_ray.pipeline.settings import JobSettings
from vp_ray.storage import RunFolder

_TOKENS_OF_AN_OPINION: Final = 28
_USUAL_SIDE: Final = 512


@dataclass(frozen=True, slots=True)
class StageCost:
    """What one stage takes; None where nothing tells."""

    stage: str
    work: str
    """What is made, in words."""
    hours: float | None = None
    """By the clock, with as many workers as the settings allow."""
    gpu_hours: float | None = None
    gpu_usd: float | None = None
    api_usd: float | None = None
    """What annotators bill."""
    gigabytes: float | None = None


def costs_of(job: JobSettings, known_prompts: int | None = None) -> list[StageCost]:
    """The stages that cost hours or dollars, in their order; `known_prompts` is what the run has counted."""
    told = job.estimate or EstimateSettings()
    prompts = known_prompts or told.prompts
    if prompts is None:
        return []
    costs = []
    if job.generate is not None:
        costs.append(_generate(job.generate, told, prompts, RunFolder.at(job.run)))
    images = sum(pool.images_of_a_prompt for pool in job.generate.generators) if job.generate is not None else 0
    if job.annotate is not None and images:
        costs.append(_annotate(job.annotate, told, prompts, _sizes(job.generate), _judging_gpus(job)))
    training = told.training_gpu_usd_per_hour
    training = told.gpu_usd_per_hour if training is None else training
    if job.reward is not None:
        groups = prompts * (job.reward.train_share * job.reward.epochs * job.reward.trainings)
        workers = job.reward.workers
        costs.append(
            _trained("reward", f"{groups:,.0f} groups", groups, told.groups_per_second, workers.num_workers,
                     workers.gpus_per_worker, training)
        )  # fmt: skip
    if job.rl is not None:
        per_epoch = job.rl.prompts_per_epoch * job.rl.samples_per_prompt
        drawn = job.rl.epochs * (2 * job.rl.dpo.pairs_per_epoch if job.rl.algorithm == "dpo" else per_epoch)
        workers = job.rl.workers
        costs.append(
            _trained("rl", f"{drawn:,} images", drawn, told.rl_images_per_second, workers.num_workers,
                     workers.gpus_per_worker, training)
        )  # fmt: skip
    if job.evaluate is not None:
        costs.append(_evaluate(job, job.evaluate, told, prompts))
    return costs


def total_of(costs: Sequence[StageCost]) -> StageCost:
    """The sums; None where a part is not known."""

    def added(name: str) -> float | None:
        return _sum(getattr(cost, name) for cost in costs)

    names = ("hours", "gpu_hours", "gpu_usd", "api_usd", "gigabytes")
    return StageCost("in all", "", **{name: added(name) for name in names})


def _generate(settings: GenerateSettings, told: EstimateSettings, prompts: int, run: RunFolder) -> StageCost:
    measured = read_measured(run.stage("generate"))
    rows = [generator_estimate(pool, prompts, measured.get(pool.name)) for pool in settings.generators]
    at_once = [pool.pool.max_actors for pool in settings.generators]
    hours, gpu_hours, size = (
        _sum(
            None if row.actor_hours is None else row.actor_hours / actors
            for row, actors in zip(rows, at_once, strict=True)
        ),
        _sum(row.gpu_hours for row in rows),
        _sum(row.gigabytes for row in rows),
    )
    work = f"{sum(row.images for row in rows):,} images"
    return StageCost("generate", work, hours, gpu_hours, _times(gpu_hours, told.gpu_usd_per_hour), 0.0, size)


def _annotate(
    settings: AnnotateSettings, told: EstimateSettings, prompts: int, sizes: Sequence[tuple[int, int]], gpus: float
) -> StageCost:
    rubric = Rubric.load(settings.rubric, settings.mode)
    names = [str(place) for place in range(len(sizes))]
    orders = shown_orders("prompt", names, settings)
    about = asked_of(settings, rubric)
    requests = prompts * len(orders) * len(about) * settings.samples
    found = [
        _asked(annotator, rubric, requests, [(order, one) for order in orders for one in about], told, sizes)
        for annotator in settings.annotators
    ]
    # Annotators are asked side by side.
    hours = None if any(one[0] is None for one in found) else max(one[0] or 0.0 for one in found)
    work = f"{requests * len(settings.annotators):,} requests"
    gpu_hours = 0.0 if gpus == 0 else None if hours is None else hours * gpus
    gpu_usd = _times(gpu_hours, told.gpu_usd_per_hour)
    return StageCost("annotate", work, hours, gpu_hours, gpu_usd, _sum(usd for _, usd in found), 0.0)


def _judging_gpus(job: JobSettings) -> float:
    """GPUs of the cluster's own judge, with all its replicas."""
    asked = any(model.base_url == CLUSTER for model in job.models_of("annotate"))
    judge = job.open_judge
    return float(judge.max_replicas * judge.gpus_per_replica) if asked and judge is not None else 0.0


def _asked(
    annotator: AnnotatorSettings,
    rubric: Rubric,
    requests: int,
    sights: Sequence[tuple[tuple[str, ...], Asked]],
    told: EstimateSettings,
    sizes: Sequence[tuple[int, int]],
) -> tuple[float | None, float | None]:
    """Hours and dollars of one annotator, by the very requests that it would be sent, with plain pictures."""
    pictures = [_picture(*size) for size in sizes]
    text = " ".join(["painting"] * told.words_per_prompt)
    tokens, replies = [], []
    for order, asked in sights:
        shown = tuple(pictures[int(name) % len(pictures)] for name in order)
        question = Question("estimate", "prompt", text, order, shown, asked=asked)
        tokens.append(message(question, rubric, annotator).tokens)
        opinions = len(asked.aspects) * (1 if asked.mode == "pairwise" else len(order))
        replies.append(_TOKENS_OF_AN_OPINION * opinions)
    sent, back = sum(tokens) / len(tokens), sum(replies) / len(replies)
    price = price_of(annotator)
    if price is not None and annotator.batch is not None:
        price = price.batched
    usd = None if price is None else requests * price.cost_usd(round(sent), round(back))
    if annotator.batch is not None:
        return 24.0, usd
    of_its_own = annotator.requests_per_minute or told.judge_requests_per_minute or 0.0
    limits = ((1.0, of_its_own), (sent + annotator.max_reply_tokens, annotator.tokens_per_minute))
    minutes = [requests * amount / limit for amount, limit in limits if limit]
    return (max(minutes) / 60.0 if minutes else None), usd


def _trained(
    stage: str, work: str, amount: float, speed: float | None, ranks: int, gpus: float, price: float | None
) -> StageCost:
    hours = None if speed is None else amount / speed / ranks / 3600.0
    gpu_hours = None if hours is None else hours * ranks * gpus
    return StageCost(stage, work, hours, gpu_hours, _times(gpu_hours, price), 0.0, 0.0)


def _evaluate(job: JobSettings, settings: EvaluateSettings, told: EstimateSettings, prompts: int) -> StageCost:
    pairs, seen = settings.pairs_of(prompts)
    pools = job.generate.generators if job.generate is not None else ()
    speeds = [pool.images_per_second for pool in pools if pool.source == settings.base.source]
    speed = speeds[0] if speeds else None
    hours = None if speed is None else 2 * pairs / speed / settings.pool.max_actors / 3600.0
    gpu_hours = None if hours is None else hours * settings.pool.max_actors * settings.pool.gpus_per_actor
    size = (settings.base.height or _USUAL_SIDE, settings.base.width or _USUAL_SIDE)
    rubric = Rubric.load(settings.rubric)
    sights = [(("0", "1"), Asked("listwise", rubric.aspects))]
    asked = [_asked(judge, rubric, seen * settings.orders, sights, told, [size]) for judge in settings.judges]
    judged = None if any(one[0] is None for one in asked) else max((one[0] or 0.0 for one in asked), default=0.0)
    return StageCost(
        "evaluate",
        f"{2 * pairs:,} images, {seen * settings.orders * len(settings.judges):,} requests",
        None if hours is None or judged is None else hours + judged,
        gpu_hours,
        _times(gpu_hours, told.gpu_usd_per_hour),
        _sum(usd for _, usd in asked),
        0.0,
    )


def _sizes(settings: GenerateSettings | None) -> list[tuple[int, int]]:
    """(height, width) of the images of a prompt, in the order of the generators."""
    pools = settings.generators if settings is not None else ()
    each = [((pool.height or _USUAL_SIDE, pool.width or _USUAL_SIDE), pool.images_of_a_prompt) for pool in pools]
    return [size for size, images in each for _ in range(images)]


def _picture(height: int, width: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


def _sum(parts: Iterable[float | None]) -> float | None:
    total = 0.0
    for part in parts:
        if part is None:
            return None
        total += part
    return total


def _times(amount: float | None, price: float | None) -> float | None:
    if amount == 0:
        return 0.0
    return None if amount is None or price is None else amount * price
