"""How long a run of any size takes, from what smaller runs of the same kind took.

A stage's seconds are start + cost x load. The load is what each of its workers has to do; it follows from the settings
and the number of prompts. Start and cost are told by two finished runs, or the cost alone by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb
from typing import Final

from vp_ray.annotate.config import AnnotateSettings
from vp_ray.annotate.planning import asked_of, shown_orders
from vp_ray.evaluate.config import EvaluateSettings
from vp_ray.judging.config import ModelSettings
from vp_ray.judging.rubric import Rubric
from vp_ray.pipeline.settings import JobSettings
from vp_ray.pipeline.stages import STAGE_NAMES
from vp_ray.records import ASPECTS, OVERALL
from vp_ray.rl.config import RlSettings

_TRAINING_PASSES: Final = 3
"""A step that is trained costs a forward pass and a backward one, which is two."""
_SECONDS_A_MINUTE: Final = 60.0


@dataclass(frozen=True, slots=True)
class Work:
    """What a stage has to do."""

    stage: str
    unit: str
    amount: float
    load: float
    """Units that each worker has to do, where all have equally many."""
    rows: int
    """Rows of metadata that it leaves."""
    paced_seconds: float = 0.0
    """What limits on requests alone demand."""


@dataclass(frozen=True, slots=True)
class Speed:
    """What a stage costs: seconds before the first unit, and seconds a unit of load."""

    start_seconds: float
    unit_seconds: float

    def seconds(self, work: Work) -> float:
        """How long the stage takes."""
        return self.start_seconds + max(self.unit_seconds * work.load, work.paced_seconds)


@dataclass(frozen=True, slots=True)
class Trial:
    """A finished run: what its stages had to do, and how long they took."""

    works: Mapping[str, Work]
    seconds: Mapping[str, float]


def work_of(job: JobSettings, prompts: Mapping[str, int], gpus: int | None = None) -> dict[str, Work]:
    """What each stage of a job has to do for so many prompts, by split; with `gpus`, pools are as large as these allow.

    Stages whose work does not follow from the settings, such as an import, are left out.
    """
    works: list[Work] = []
    total = sum(prompts.values())
    drawn = sum(prompts.get(split, 0) for split in job.generate.splits) if job.generate else 0
    each = sum(pool.images_of_a_prompt for pool in job.generate.generators) if job.generate else 0
    if job.prompts is not None:
        works.append(Work("prompts", "prompts", total, total, total))
    if job.generate is not None:
        load = sum(
            drawn * pool.images_of_a_prompt / _at_once(pool.pool.max_actors, pool.pool.gpus_per_actor, gpus)
            for pool in job.generate.generators
        )
        works.append(Work("generate", "images", drawn * each, load, drawn * each))
    if job.annotate is not None and each:
        requests = drawn * requests_of_a_prompt(job.annotate, each)
        own = requests // len(job.annotate.annotators)
        pace = max(_paced(annotator, own) for annotator in job.annotate.annotators)
        rows = requests + drawn * each * len(ASPECTS)
        works.append(Work("annotate", "requests", requests, requests / job.annotate.actors.max_actors, rows, pace))
    if job.preferences is not None and each:
        pairs = comb(each, 2)
        if job.preferences.pairs_per_prompt is not None:
            pairs = min(pairs, job.preferences.pairs_per_prompt)
        rows = drawn * pairs * len((*ASPECTS, OVERALL))
        works.append(Work("preferences", "pairs", rows, rows, rows))
    if job.reward is not None and each:
        groups = drawn * job.reward.train_share * job.reward.epochs * job.reward.trainings
        works.append(Work("reward", "groups", groups, groups / job.reward.workers.num_workers, 0))
    if job.rl is not None:
        passes = _passes(job.rl)
        works.append(Work("rl", "passes", passes, passes / job.rl.workers.num_workers, job.rl.epochs))
    if job.evaluate is not None:
        works.append(_evaluation(job.evaluate, prompts, gpus))
    if job.report is not None:
        works.append(Work("report", "pages", 1, 1, 0))
    return {work.stage: work for work in works}


def requests_of_a_prompt(settings: AnnotateSettings, images: int) -> int:
    """Requests of all annotators about one prompt of so many images."""
    orders = shown_orders("prompt", [str(place) for place in range(images)], settings)
    asked = asked_of(settings, Rubric.load(settings.rubric, settings.mode))
    return len(orders) * len(asked) * settings.samples * len(settings.annotators)


def _passes(settings: RlSettings) -> float:
    """Passes of the network over one image: sampling, training, and the checks on held-out prompts."""
    images = settings.epochs * settings.prompts_per_epoch * settings.samples_per_prompt
    trained = max(1, round((settings.steps - settings.drop_last_steps) * settings.trained_steps_share))
    checks = 1 + settings.epochs // settings.evaluate_every + bool(settings.epochs % settings.evaluate_every)
    checked = checks * settings.held_out_prompts * (settings.evaluation_steps or settings.steps)
    return images * (settings.steps + _TRAINING_PASSES * settings.inner_epochs * trained) + checked


def _evaluation(settings: EvaluateSettings, prompts: Mapping[str, int], gpus: int | None) -> Work:
    available = sum(prompts.get(split, 0) for split in settings.splits)
    pairs, judged = settings.pairs_of(available)
    pace = max((_paced(judge, judged * settings.orders) for judge in settings.judges), default=0.0)
    at_once = _at_once(settings.pool.max_actors, settings.pool.gpus_per_actor, gpus)
    return Work("evaluate", "images", 2 * pairs, 2 * pairs / at_once, 2 * pairs, pace)


def _at_once(workers: int, gpus_per_worker: float, gpus: int | None) -> float:
    return max(1.0, gpus / gpus_per_worker) if gpus and gpus_per_worker else float(workers)


def _paced(model: ModelSettings, requests: float) -> float:
    return paced_minutes(model, requests) * _SECONDS_A_MINUTE


def paced_minutes(model: ModelSettings, requests: float) -> float:
    """The least that a model's limits demand: providers count the longest reply that a request allows."""
    by_requests = requests / model.requests_per_minute if model.requests_per_minute else 0.0
    tokens = requests * model.max_reply_tokens
    return max(by_requests, tokens / model.tokens_per_minute if model.tokens_per_minute else 0.0)


def speeds_of(trials: Sequence[Trial]) -> dict[str, Speed]:
    """Start and cost of each stage, by its trials of the least and of the greatest load.

    A stage whose load is the same in all trials, or of which there is one, costs nothing before its first unit.
    """
    found = {}
    for stage in STAGE_NAMES:
        known = sorted(
            (trial.works[stage].load, trial.seconds[stage])
            for trial in trials
            if stage in trial.works and stage in trial.seconds
        )
        if not known:
            continue
        (least, before), (most, after) = known[0], known[-1]
        if most > least:
            cost = max(0.0, (after - before) / (most - least))
            found[stage] = Speed(max(0.0, after - cost * most), cost)
        else:
            found[stage] = Speed(0.0, after / most if most else 0.0)
    return found


def forecast(works: Mapping[str, Work], speeds: Mapping[str, Speed]) -> dict[str, float | None]:
    """Seconds of each stage; None where no trial tells, and where limits alone do not."""
    return {
        name: speeds[name].seconds(work) if name in speeds else work.paced_seconds or None
        for name, work in works.items()
    }
