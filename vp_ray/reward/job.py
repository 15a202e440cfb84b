"""Wires the reward stage: Ray Train workers with DeepSpeed, then the checkpoint of the best weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch

from vp_ray.distributed.collectives import TorchCollective
from vp_ray.distributed.config import WorkerSettings
from vp_ray.distributed.engine_state import read_state, trainable_parameters
from vp_ray.distributed.engines import DeepSpeedEngine, Schedule
from vp_ray.distributed.gauges import Gauges
from vp_ray.distributed.sharded_engine import ShardedEngine
from vp_ray.distributed.train import device_of_rank, run_workers
from vp_ray.ids import seed_from
from vp_ray.local_copies import to_read
from vp_ray.models.backbones import backbone_preparation
from vp_ray.models.reward import VPScore
from vp_ray.models.reward_config import Normalisation
from vp_ray.records import ANNOTATED, OVERALL
from vp_ray.reward.checkpoints import BEST, TrainingState, newest_state
from vp_ray.reward.config import RewardSettings
from vp_ray.reward.data import Group, RewardData, read_data
from vp_ray.reward.folds import accuracies, deal, overall_scores
from vp_ray.reward.forward import FROZEN_STATES, forget_copies, new_forward
from vp_ray.reward.loop import METRICS, rate_schedule, total_updates, train
from vp_ray.storage import Folder, RunFolder, StageOutcome
from vp_ray.telemetry import JsonLines, progress

CHECKPOINT = "checkpoint"
SCORES_FILE = "scores.parquet"


def run(settings: RewardSettings, run: RunFolder) -> StageOutcome:
    """Trains VP-Score and writes it to `reward/checkpoint`, with curves in `reward/metrics.jsonl`."""
    folder = run.stage("reward")
    model, data = new_model(settings, run)
    training, validation = _split(settings, data)
    varied = _variants(settings, run)
    _train_all([_Training(settings, folder, data, "all"), *varied.values()], settings.workers, run)
    state = newest_state(folder)
    _finish(model, state, folder)
    cross_validation = _cross_validate(settings, run, model, data) if settings.folds else None
    rows = [_finished_variant(name, training, run) for name, training in varied.items()]
    variants = [_variant_row("all", settings, data, state), *rows] if rows else None
    folder.delete(FROZEN_STATES)
    pairs = sum(pair[0] in data.aspects for group in training for pair in group.pairs)
    return StageOutcome(
        rows={"training_groups": len(training), "validation_groups": len(validation), "images": len(data.images)},
        figures={
            "accuracy": state.best_figures["accuracy"],
            "calibration": state.best_figures["calibration"],
            "cross_validation": cross_validation,
            "variants": variants,
            "pairs": pairs,
            "updates": state.update,
            "best_update": state.best_update,
            "prompts_cut": int(model.prompts_cut([group.prompt for group in data.groups]).sum()),
        },
    )


@dataclass(frozen=True, slots=True)
class _Training:
    """One training: its settings, the folder of its checkpoints, and the fold that it leaves out."""

    settings: RewardSettings
    folder: Folder
    data: RewardData
    label: str
    fold: int | None = None


def _train_all(trainings: Sequence[_Training], workers: WorkerSettings, run: RunFolder) -> None:
    """Trains one after the other in one group of workers, each from where an earlier call was cut off."""
    shown = trainings[0]
    total = sum(total_updates(one.settings, len(_split(one.settings, one.data)[0])) for one in trainings)
    with progress("reward", "updates", total) as bar:

        def show() -> None:
            done, note = 0, shown.label
            for one in trainings:
                rows = JsonLines(one.folder, METRICS).rows
                if rows:
                    done += rows[-1]["update"]
                    note = f"{one.label}, validation accuracy {rows[-1]['validation_accuracy']:.3f}"
            bar.update(done, note=note)

        tasks = [
            {"settings": one.settings.model_dump(mode="json"), "folder": one.folder.uri, "fold": one.fold}
            for one in trainings
        ]
        storage = run.stage("reward").uri
        run_workers(_rank, {"run": run.uri, "trainings": tasks}, workers, "reward", storage, show)


def _variants(settings: RewardSettings, run: RunFolder) -> dict[str, _Training]:
    """The training of each variant, in a folder of its own."""
    found = {}
    for name in settings.variants:
        varied, folder = settings.variant(name), (run.stage("reward") / "variants" / name).make()
        found[name] = _Training(varied, folder, training_data(varied, run), name)
    return found


def _finished_variant(name: str, training: _Training, run: RunFolder) -> dict[str, Any]:
    """Writes the variant's checkpoint; its row of the figures."""
    state = newest_state(training.folder)
    if not training.folder.exists(CHECKPOINT):
        _finish(new_model(training.settings, run)[0], state, training.folder)
    return _variant_row(name, training.settings, training.data, state)


def _variant_row(name: str, settings: RewardSettings, data: RewardData, state: TrainingState) -> dict[str, Any]:
    return {
        "variant": name,
        "aspects": list(data.aspects),
        "train_share": settings.train_share,
        "frozen_share": settings.frozen_share,
        "backbone": settings.backbone,
        "pretrained": settings.pretrained,
        "preferences": settings.preferences,
        "training_groups": len(_split(settings, data)[0]),
        "updates": state.update,
        "accuracy": state.best_figures["accuracy"],
    }


def _source(settings: RewardSettings, run: RunFolder) -> RunFolder:
    """The run whose preferences are learnt from."""
    return run if settings.preferences is None else RunFolder.at(settings.preferences)


def training_data(settings: RewardSettings, run: RunFolder) -> RewardData:
    """What is learnt from; its images are fitted to the backbone."""
    return read_data(
        _source(settings, run), backbone_preparation(settings.backbone, settings.revision), settings.aspects
    )


def new_model(settings: RewardSettings, run: RunFolder) -> tuple[VPScore, RewardData]:
    """The VP-Score before training, and its data."""
    data = training_data(settings, run)
    model = VPScore.from_backbone(
        settings.backbone,
        revision=settings.revision,
        pretrained=settings.pretrained,
        aspects=data.aspects,
        # Where only overall is labelled there is one output, and nothing to weigh.
        overall_weights=None
        if data.aspects == (OVERALL,)
        else {name: float(weight) for name, weight in settings.overall_weights.items()},
        head_widths=settings.head_widths,
        dropout=settings.dropout,
        text_tokens=settings.text_tokens,
        seed=seed_from("reward-head", settings.seed),
    )
    model.freeze(settings.frozen_share)
    return model, data


def _split(settings: RewardSettings, data: RewardData) -> tuple[tuple[Group, ...], tuple[Group, ...]]:
    return data.split(settings.validation_share, settings.seed, settings.train_share)


def _rank(config: dict[str, Any]) -> None:
    """One worker: the same model and data on every rank, a share of each batch on this one."""
    run = RunFolder(config["run"])
    for task in config["trainings"]:
        _train_one(RewardSettings.model_validate(task["settings"]), run, Folder.at(task["folder"]), task["fold"])
    forget_copies(run.stage("reward"))


def _train_one(settings: RewardSettings, run: RunFolder, folder: Folder, fold: int | None) -> None:
    model, data = new_model(settings, run)
    if fold is not None:
        data = data.only(_seen(settings, data, fold))
    training, _ = _split(settings, data)
    device = device_of_rank(settings.workers)
    collective = TorchCollective(device)
    forward = new_forward(settings, model, device, run.stage("reward"), collective.world_size)
    schedule = rate_schedule(settings, total_updates(settings, len(training)))
    engine = _engine(settings, model, device, schedule)
    gauges = Gauges("reward", run.name)
    train(settings, forward, engine, collective, data, folder, lambda row: gauges.log(row["update"], row))


def _engine(settings: RewardSettings, model: VPScore, device: torch.device, schedule: Schedule) -> DeepSpeedEngine:
    if settings.sharded_checkpoints:
        return ShardedEngine(model, settings.optimizer, settings.micro_batches, schedule, device=device)
    stage = settings.workers.zero_stage
    return DeepSpeedEngine(model, settings.optimizer, settings.micro_batches, schedule, zero_stage=stage, device=device)


def _seen(settings: RewardSettings, data: RewardData, fold: int) -> set[str]:
    """The prompts that the training without this fold sees."""
    dealt = deal([group.prompt_id for group in data.groups], settings.folds or 1, settings.seed)
    return {prompt_id for prompt_id, place in dealt.items() if place != fold}


def _cross_validate(settings: RewardSettings, run: RunFolder, model: VPScore, data: RewardData) -> list[dict[str, Any]]:
    """Trains without each fold and scores it; accuracies of VP-Score and of what it must beat, on the same pairs."""
    tables = []
    for fold in range(settings.folds or 0):
        folder = (run.stage("reward") / "folds" / str(fold)).make()
        if not folder.exists(SCORES_FILE):
            seen = _seen(settings, data, fold)
            label = f"without fold {fold + 1} of {settings.folds}"
            _train_all([_Training(settings, folder, data.only(seen), label, fold)], settings.workers, run)
            _load_best(model, newest_state(folder), folder)
            left_out = data.only({group.prompt_id for group in data.groups} - seen)
            folder.write_table(SCORES_FILE, overall_scores(model, left_out))
        tables.append(folder.read_table(SCORES_FILE))
    scores = pa.concat_tables(tables)
    run.stage("reward").write_table("cross_validation.parquet", scores)
    learnt = _source(settings, run)
    preferences = learnt.stage("preferences").read_table("preferences.parquet")
    # People and floors are compared on what was annotated, whatever else the model learns from.
    preferences = preferences.filter(pc.equal(preferences["source"], ANNOTATED))
    images = learnt.source("generate").read_table("images", columns=["image_id", "image"])
    annotations = learnt.source("annotate")
    rankings = annotations.read_table("rankings.parquet") if annotations.exists("rankings.parquet") else None
    return accuracies(scores, preferences, images, rankings)


def _load_best(model: VPScore, state: TrainingState, folder: Folder) -> None:
    parameters = trainable_parameters(model)
    place = folder / BEST / f"update_{state.best_update:05d}"
    with to_read(place) as path:
        best = read_state(path, {name: parameter.shape for name, parameter in parameters.items()})
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(best.weights[name])


def _finish(model: VPScore, state: TrainingState, folder: Folder) -> None:
    """Writes the best weights as a checkpoint that scores with mean 0 and spread 1 on the validation images."""
    _load_best(model, state, folder)
    figures = state.best_figures
    model.normalise(
        Normalisation(
            mean=tuple(figures["mean"]),
            std=tuple(value or 1.0 for value in figures["std"]),
            overall_mean=figures["overall_mean"],
            overall_std=figures["overall_std"] or 1.0,
            measured_on=f"the {figures['images']} images of the validation prompts",
        )
    )
    model.save_pretrained((folder / CHECKPOINT).uri)
