"""What a run prints before it starts (the plan) and after it ended (the closing table)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from rich.console import Console
from rich.table import Table

from vp_ray.config import difference
from vp_ray.evaluate.config import EvaluateSettings
from vp_ray.generate.planning import estimate, read_measured
from vp_ray.judging.image_tokens import ALARM_SHARE
from vp_ray.pipeline.costing import StageCost, costs_of, total_of
from vp_ray.pipeline.outcome import print_choice, print_outcome
from vp_ray.pipeline.running import Finished, chosen_stages, recorded_settings
from vp_ray.pipeline.settings import JobSettings
from vp_ray.records import OVERALL
from vp_ray.storage import STARTED, Manifest, RunFolder

_FOUR_IN_FIVE: Final = 2.8016
"""z(0.975) + z(0.8): the gain, in standard errors, that a two-sided test at 5 % finds with probability 0.8."""


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """One stage of a job before it starts."""

    stage: str
    state: Literal["to do", "goes on", "finished", "refused"]
    does: str
    """What it makes, in words."""
    changed: tuple[str, ...] = ()
    """The settings for whose change it is refused, as `rl.epochs: 10 -> 12`."""


def plan_of(job: JobSettings, first: str | None, last: str | None) -> list[PlannedStage]:
    """Every chosen stage with its state and what it would do; nothing is started."""
    run = RunFolder.at(job.run)
    planned = []
    for stage in chosen_stages(job, first, last):
        folder, does = run.stage(stage.name), _intention(job, stage.name)
        if not folder.exists(STARTED) or stage.always_anew:
            planned.append(PlannedStage(stage.name, "to do", does))
            continue
        changed = difference(folder.read_json(STARTED)["settings"], recorded_settings(job, stage))
        state: Literal["goes on", "finished"] = "finished" if folder.manifest() is not None else "goes on"
        planned.append(PlannedStage(stage.name, "refused" if changed else state, does, tuple(changed)))
    return planned


def print_plan(job: JobSettings, first: str | None, last: str | None, console: Console) -> None:
    """`plan_of` as a table, and what generate takes where it is among the stages."""
    run = RunFolder.at(job.run)
    # Apart from the table, as a title is folded to the table's width.
    console.print(f"Plan of {run.uri}", style="italic", soft_wrap=True, highlight=False)
    table = Table(box=None, pad_edge=False)
    for column in ("stage", "state", "what it does"):
        table.add_column(column, overflow="fold")
    planned = plan_of(job, first, last)
    for stage in planned:
        state = f"refused, settings changed: {'; '.join(stage.changed)}" if stage.changed else stage.state
        table.add_row(stage.stage, state, stage.does)
    console.print(table)
    if any(stage.stage == "generate" for stage in planned):
        _print_estimates(job, run, console)
    _print_costs_before(job, run, console)


def job_costs(job: JobSettings) -> list[StageCost]:
    """What the whole job takes by its section `estimate`; empty where it has none, or prompts cannot be counted."""
    return costs_of(job, _prompts_of_generate(job, RunFolder.at(job.run))) if job.estimate is not None else []


def _print_costs_before(job: JobSettings, run: RunFolder, console: Console) -> None:
    costs = job_costs(job)
    if not costs:
        return
    source = f" ({job.estimate.as_of})" if job.estimate is not None and job.estimate.as_of else ""
    console.print(f"\nWhat the whole job takes{source}", style="italic", highlight=False)
    table = Table(box=None, pad_edge=False)
    table.add_column("stage", no_wrap=True)
    table.add_column("work", overflow="fold")
    for column in ("hours", "GPU hours", "GPU usd", "API usd", "GB"):
        table.add_column(column, justify="right", no_wrap=True)
    for cost in (*costs, total_of(costs)):
        numbers = (cost.hours, cost.gpu_hours, cost.gpu_usd, cost.api_usd, cost.gigabytes)
        told = ("?" if number is None else amount(number) for number in numbers)
        table.add_row(cost.stage, cost.work, *told, style="bold" if cost.stage == "in all" else "")
    console.print(table)


def amount(number: float) -> str:
    """Three digits, or all before the point."""
    return "0" if number == 0 else f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def _prompts_of_generate(job: JobSettings, run: RunFolder) -> int | None:
    """The prompts that are drawn, where the run or the settings tell."""
    if job.generate is None:
        return None
    finished = run.source("prompts").manifest() if _prompts_are_there(run) else None
    counts = finished.figures.get("splits") if finished is not None else _prompt_counts(job)
    return None if counts is None else sum(counts.get(split, 0) for split in job.generate.splits)


def _print_estimates(job: JobSettings, run: RunFolder, console: Console) -> None:
    """Images, hours and gigabytes of the generate stage, by generator; of a thousand prompts while none are counted."""
    settings = job.generate
    if settings is None:
        return
    known = _prompts_of_generate(job, run)
    prompts = known or 1000
    measured = read_measured(run.stage("generate"))
    title = "What generate takes" + (" for each 1,000 prompts" if known is None else f" for {prompts:,} prompts")
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("generator", overflow="fold")
    for column in ("images", "images/s", "actor hours", "GPU hours", "GB"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("speed of an actor", no_wrap=True)
    for pool in settings.generators:
        row = estimate(pool, prompts, measured.get(pool.name))
        numbers = (row.images_per_second, row.actor_hours, row.gpu_hours, row.gigabytes)
        told = ("?" if number is None else f"{number:,.3g}" for number in numbers)
        table.add_row(row.generator, f"{row.images:,}", *told, row.source)
    console.print(table)


def _prompts_are_there(run: RunFolder) -> bool:
    return any(run.stage(name).manifest() is not None for name in ("prompts", "import"))


def _prompt_counts(job: JobSettings) -> dict[str, int] | None:
    """Prompts by split where the settings alone tell."""
    if job.prompts is None or any(source.kind != "shapeworld" for source in job.prompts.sources):
        return None
    counts: dict[str, int] = {}
    for source in job.prompts.sources:
        for split, count in getattr(source, "counts", {}).items():
            counts[split] = counts.get(split, 0) + count
    return counts


def _intention(job: JobSettings, name: str) -> str:  # noqa: PLR0911 - one sentence a stage
    counts = _prompt_counts(job)
    if name == "prompts" and job.prompts:
        kinds = ", ".join(source.kind for source in job.prompts.sources)
        asked = [
            word for word, step in (("moderated", job.prompts.moderation), ("polished", job.prompts.polish)) if step
        ]
        told = f"{sum(counts.values())} prompts ({kinds})" if counts else f"prompts from {kinds}"
        return ", ".join([told, *asked])
    if name == "generate" and job.generate:
        per_prompt = sum(generator.images_of_a_prompt for generator in job.generate.generators)
        names = ", ".join(generator.name for generator in job.generate.generators)
        if counts is None:
            return f"{per_prompt} images a prompt by {names}"
        prompts = sum(counts.get(split, 0) for split in job.generate.splits)
        return f"{prompts * per_prompt} images by {names}"
    if name == "annotate" and job.annotate:
        names = ", ".join(annotator.name for annotator in job.annotate.annotators)
        return f"each group in {job.annotate.orders} orders by {names}"
    if name == "reward" and job.reward:
        return f"VP-Score on {job.reward.workers.num_workers} workers"
    if name == "rl" and job.rl:
        return f"{job.rl.epochs} epochs on {job.rl.workers.num_workers} workers"
    if name == "evaluate" and job.evaluate:
        judges = ", ".join(judge.name for judge in job.evaluate.judges)
        other, ways = job.evaluate.tuned, len(job.evaluate.conditions)
        told = f"{other.name} against {job.evaluate.base.name}" if other else "tuned against base"
        told += (f", judged by {judges}" if judges else "") + (f", and in {ways} other ways of drawing" if ways else "")
        return told + _finds(job.evaluate, counts)
    return {"import": "an existing data set", "preferences": "pairs from ratings", "report": "one HTML page"}.get(
        name, ""
    )


def _finds(settings: EvaluateSettings, counts: Mapping[str, int] | None) -> str:
    """The smallest gain that a comparison of so many prompts finds, where their number is known before the run."""
    available = None if counts is None else sum(counts.get(split, 0) for split in settings.splits)
    prompts = min((number for number in (available, settings.prompts) if number), default=0)
    if not prompts:
        return ""
    return (
        f"; {prompts} prompts find a gain of {_FOUR_IN_FIVE / prompts**0.5:.2f} standard deviations four times in five"
    )


def print_summary(results: Mapping[str, Finished], console: Console) -> None:
    """The closing table: rows, seconds, cost and the figure that matters, one line a stage; then did it get better."""
    table = Table(box=None, pad_edge=False, title_justify="left")
    for column, justify in (("stage", "left"), ("rows", "left"), ("seconds", "right"), ("usd", "right"), ("", "left")):
        table.add_column(column, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for name, finished in results.items():
        manifest = finished.manifest
        rows = ", ".join(f"{count} {kind}" for kind, count in manifest.rows.items())
        note = "; ".join(_notes(name, manifest))
        seconds = f"{manifest.seconds:.1f}" + (" (before)" if finished.skipped else "")
        table.add_row(name, rows, seconds, f"{manifest.cost_usd:.4f}" if manifest.cost_usd else "", note)
    console.print(table)
    for name, finished in results.items():
        _print_costs(name, finished.manifest, console)
    if "annotate" in results:
        print_choice(results["annotate"].manifest.figures, console)
    if "reward" in results:
        _print_cross_validation(results["reward"].manifest, console)
        _print_variants(results["reward"].manifest, console)
    if "evaluate" in results:
        _print_comparison(results["evaluate"].manifest, console)
        print_outcome(results["evaluate"].manifest.figures, console)


def _print_costs(name: str, manifest: Manifest, console: Console) -> None:
    """What was paid, by model and day; nothing where nothing was."""
    paid = [row for row in manifest.figures.get("costs") or () if row["cost_usd"]]
    if not paid:
        return
    table = Table(box=None, pad_edge=False, title=f"What {name} cost", title_justify="left")
    for column in ("model", "day", "prices of"):
        table.add_column(column)
    for column in ("answers", "tokens sent", "tokens back", "usd"):
        table.add_column(column, justify="right")
    for row in paid:
        counts = (f"{row[key]:,}" for key in ("answers", "request_tokens", "reply_tokens"))
        table.add_row(row["model"], row["day"] or "?", row["prices_as_of"] or "?", *counts, f"{row['cost_usd']:.4f}")
    console.print(table)


def _notes(name: str, manifest: Manifest) -> Iterator[str]:
    figures = manifest.figures
    for key, text in (("images_per_second", "{:.1f} images/s"), ("answers_per_minute", "{:.0f} answers/min")):
        if figures.get(key) is not None:
            yield text.format(figures[key])
    if name == "prompts":
        yield from _prompt_notes(figures)
    # Prompts hold no images, whose tokens are what estimates miss.
    for annotator, traffic in ((figures.get("traffic") or {}) if name != "prompts" else {}).items():
        ratio = traffic.get("billed_over_estimated")
        if ratio is not None and abs(ratio - 1.0) > ALARM_SHARE:
            yield f"{annotator} bills {ratio:.2f} times the tokens that were estimated: set its image_tokens"
    if name == "reward" and figures.get("accuracy"):
        overall = figures["accuracy"].get(OVERALL)
        if overall:
            yield f"pair accuracy {overall['accuracy']:.3f}{_interval(overall)}"
    if name == "rl" and figures.get("reward_last") is not None:
        yield f"reward {figures['reward_first']:.3f} -> {figures['reward_last']:.3f}"


def _prompt_notes(figures: Mapping[str, Any]) -> Iterator[str]:
    masked, asked, written = (figures.get(key) for key in ("masked", "moderation", "polish"))
    if masked:
        yield f"masked {', '.join(f'{count} {kind}' for kind, count in sorted(masked.items()))}"
    if asked is not None:
        yield f"{asked.get('flagged', 0)} flagged"
    if written is not None:
        faults = ", ".join(f"{written[name]} {name}" for name in ("bias", "inconsistency", "unsafe") if name in written)
        yield f"{written.get('polished', 0)} polished" + (f" ({faults})" if faults else "")


def _interval(row: Mapping[str, Any]) -> str:
    """` [low, high]` for a console; nothing where a single prompt gives none."""
    return "" if row["low"] is None else f" \\[{row['low']:.3f}, {row['high']:.3f}]"


def _print_cross_validation(manifest: Manifest, console: Console) -> None:
    rows: list[dict[str, Any]] = manifest.figures.get("cross_validation") or []
    if not rows:
        return
    table = Table(title="Pair accuracy on prompts that were left out", title_justify="left", box=None, pad_edge=False)
    for column in ("scorer", "accuracy", "95 % interval", "pairs"):
        table.add_column(column, justify="left" if column == "scorer" else "right", no_wrap=True)
    for row in rows:
        table.add_row(row["scorer"], f"{row['accuracy']:.3f}", _interval(row), str(row["pairs"]))
    console.print(table)


def _print_variants(manifest: Manifest, console: Console) -> None:
    rows: list[dict[str, Any]] = manifest.figures.get("variants") or []
    if not rows:
        return
    table = Table(title="Pair accuracy of trainings on less", title_justify="left", box=None, pad_edge=False)
    aspects = list(dict.fromkeys(aspect for row in rows for aspect in row["accuracy"]))
    for column in ("training", "groups", *aspects):
        table.add_column(column, justify="left" if column == "training" else "right", no_wrap=True)
    for row in rows:
        cells = (row["accuracy"].get(aspect) for aspect in aspects)
        shown = (f"{cell['accuracy']:.3f}" + _interval(cell) if cell else "-" for cell in cells)
        table.add_row(row["variant"], str(row["training_groups"]), *shown)
    console.print(table)


def _print_comparison(manifest: Manifest, console: Console) -> None:
    rows: list[dict[str, Any]] = manifest.figures.get("comparison", [])
    if not rows:
        return
    table = Table(title="Tuned against base", title_justify="left", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for column in ("scorer", "aspect", "base", "tuned", "gain [95 %]", "win/tie/lose"):
        table.add_column(column, justify="left" if column in ("scorer", "aspect") else "right", no_wrap=True)
    for row in rows:
        low, high = row["low"], row["high"]
        known = low is not None and high is not None
        style = "" if not known else "green" if low > 0 else "red" if high < 0 else ""
        table.add_row(
            row["scorer"],
            row["aspect"],
            f"{row['base']:.3f}",
            f"{row['tuned']:.3f}",
            f"{row['gain']:+.3f}" + (f" \\[{low:+.3f}, {high:+.3f}]" if known else ""),
            f"{row['wins']}/{row['ties']}/{row['losses']}",
            style=style,
        )
    console.print(table)
