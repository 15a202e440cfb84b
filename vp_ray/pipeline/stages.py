"""The stages of a run, in order: what each reads and how it is called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from vp_ray.pipeline.resources import Resources
from vp_ray.storage import RunFolder, StageOutcome

Arguments = Callable[[Resources, Any], dict[str, Any]]


def _nothing(resources: Resources, settings: Any) -> dict[str, Any]:
    return {}


def _prompt_models(resources: Resources, settings: Any) -> dict[str, Any]:
    if not settings.models:
        return {}
    resources.ray()
    return {"embedded_url": resources.judge_url(settings.models)}


def _annotators(resources: Resources, settings: Any) -> dict[str, Any]:
    resources.ray()
    return {"embedded_url": resources.judge_url(settings.annotators)}


def _judges(resources: Resources, settings: Any) -> dict[str, Any]:
    resources.ray()
    return {"embedded_url": resources.judge_url(settings.judges)}


def _cluster(resources: Resources, settings: Any) -> dict[str, Any]:
    resources.ray()
    return {}


def _reward_service(resources: Resources, settings: Any) -> dict[str, Any]:
    resources.ray()
    return {"app_name": resources.reward_app() if settings.asks_the_service and resources.has_reward else None}


def _of_preferences(settings: Any) -> tuple[str, ...]:
    return ("import", "generate", "preferences") if settings.algorithm == "dpo" else ()


def _planned(resources: Resources, settings: Any) -> dict[str, Any]:
    return {"planned": [name for name in STAGE_NAMES if resources.asks_for(name)]}


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: its name, the stages whose manifests it depends on, and what it needs beside its settings."""

    name: str
    inputs: tuple[str, ...]
    arguments: Arguments
    more_inputs: Callable[[Any], tuple[str, ...]] = lambda settings: ()
    """Further inputs, which depend on its settings."""
    always_anew: bool = False
    """Whether it is made again each time: it only shows what others made."""

    def execute(self, settings: Any, run: RunFolder, resources: Resources) -> StageOutcome:
        """Does the work; heavy modules are imported only now."""
        package = "imports" if self.name == "import" else self.name
        job = import_module(f"vp_ray.{package}.job")
        outcome: StageOutcome = job.run(settings, run, **self.arguments(resources, settings))
        return outcome


STAGES = (
    Stage("prompts", (), _prompt_models),
    Stage("import", (), _nothing),
    Stage("generate", ("prompts",), _cluster),
    Stage("annotate", ("import", "generate"), _annotators),
    Stage("preferences", ("import", "generate", "annotate"), _nothing),
    Stage("reward", ("import", "generate", "preferences"), _cluster),
    Stage("rl", ("prompts", "reward"), _reward_service, _of_preferences),
    Stage("evaluate", ("prompts", "import", "reward", "rl"), _judges),
    Stage(
        "report",
        ("prompts", "import", "generate", "annotate", "preferences", "reward", "rl", "evaluate"),
        _planned,
        always_anew=True,
    ),
)
STAGE_NAMES = tuple(stage.name for stage in STAGES)
