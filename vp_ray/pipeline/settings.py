"""Settings of a whole job: one YAML file, one section a stage; a stage without a section is left out."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ConfigDict, Field, model_validator

from vp_ray.annotate.config import AnnotateSettings
from vp_ray.config import LogSettings, Settings, override, read_yaml
from vp_ray.distributed.config import OpenJudgeSettings, RaySettings
from vp_ray.errors import SettingsError
from vp_ray.evaluate.config import EvaluateSettings
from vp_ray.generate.config import GenerateSettings
from vp_ray.imports.config import ImportSettings
from vp_ray.judging.config import CLUSTER, EMBEDDED, ModelSettings
from vp_ray.pipeline.estimate_config import EstimateSettings
from vp_ray.preferences.config import PreferenceSettings
from vp_ray.prompts.config import PromptSettings
from vp_ray.redaction import holds_secret
from vp_ray.report.config import ReportSettings
from vp_ray.reward.config import RewardSettings, ServiceSettings
from vp_ray.rl.config import RlSettings
from vp_ray.shapeworld.config import JudgeSettings


class JobSettings(Settings):
    """Everything of one run."""

    model_config = ConfigDict(populate_by_name=True)
    operational: ClassVar[frozenset[str]] = frozenset({"run", "ray", "logging", "estimate", "service", "open_judge"})

    run: str
    """The run directory: a path or a URI such as s3://bucket/run; stages meet only there."""
    ray: RaySettings = RaySettings()
    """The cluster."""
    logging: LogSettings = LogSettings()
    """What is written of the run while it works."""
    estimate: EstimateSettings | None = None
    """By what `--dry-run` states hours and dollars of the whole job."""
    judge: JudgeSettings | None = None
    """The embedded judge, started while a stage asks an annotator whose `base_url` is `embedded`."""
    open_judge: OpenJudgeSettings | None = None
    """An open-weight judge, started in the cluster while a stage asks a model whose `base_url` is `cluster`."""
    prompts: PromptSettings | None = None
    """Prompts: read, clean, split."""
    import_: ImportSettings | None = Field(None, alias="import")
    """An existing data set of images and human choices in place of prompts, generate and annotate."""
    generate: GenerateSettings | None = None
    """Images of the prompts."""
    annotate: AnnotateSettings | None = None
    """Judgements of the images."""
    preferences: PreferenceSettings | None = None
    """Pairs from the judgements."""
    reward: RewardSettings | None = None
    """VP-Score, trained on the pairs."""
    service: ServiceSettings = ServiceSettings()
    """How VP-Score is served while `rl` runs."""
    rl: RlSettings | None = None
    """Fine-tuning of a generator against VP-Score."""
    evaluate: EvaluateSettings | None = None
    """Tuned against base."""
    report: ReportSettings | None = ReportSettings()
    """The page about the run."""

    @model_validator(mode="after")
    def _embedded_judge_is_set(self) -> JobSettings:
        asked = [model for stage in ("prompts", "annotate", "evaluate") for model in self.models_of(stage)]
        if self.judge is None and any(model.base_url == EMBEDDED for model in asked):
            raise ValueError("an annotator has base_url 'embedded', but there is no section 'judge'")
        for model in (model for model in asked if model.base_url == CLUSTER):
            if self.open_judge is None:
                raise ValueError(f"'{model.name}' has base_url 'cluster', but there is no section 'open_judge'")
            if model.model != self.open_judge.model:
                raise ValueError(
                    f"'{model.name}' asks for '{model.model}', and open_judge is '{self.open_judge.model}'"
                )
        group = self.annotate.group_size if self.annotate else 1
        own = self.annotate is not None and any(model.base_url == CLUSTER for model in self.annotate.annotators)
        if own and self.open_judge is not None and self.open_judge.images_per_request < group:
            raise ValueError(f"open_judge.images_per_request must be at least annotate.group_size, which is {group}")
        return self

    @model_validator(mode="after")
    def _a_veto_has_levels(self) -> JobSettings:
        vetoes = self.preferences is not None and self.preferences.harmlessness_veto is not None
        if vetoes and self.annotate is not None and self.annotate.mode == "pairwise":
            raise ValueError("preferences.harmlessness_veto is a level, and annotate.mode pairwise asks for none")
        return self

    @property
    def asks_open_judge(self) -> bool:
        """Whether a stage asks the open-weight judge of the cluster."""
        asked = (model for stage in ("prompts", "annotate", "evaluate") for model in self.models_of(stage))
        return any(model.base_url == CLUSTER for model in asked)

    def models_of(self, stage: str) -> tuple[ModelSettings, ...]:
        """The models behind addresses that a stage asks."""
        if stage == "prompts" and self.prompts:
            return self.prompts.models
        if stage == "annotate" and self.annotate:
            return self.annotate.annotators
        return self.evaluate.judges if stage == "evaluate" and self.evaluate else ()

    def stage(self, name: str) -> Settings | None:
        """The section of a stage, or None where the job leaves it out."""
        found: Settings | None = getattr(self, "import_" if name == "import" else name)
        return found


def load_job(path: Path, assignments: Iterable[str] = ()) -> JobSettings:
    """The checked settings of a job file with `--set` assignments; raises `SettingsError` that names file and key."""
    values = override(read_yaml(path), assignments)
    _check_no_secret(values, str(path))
    return JobSettings.load(values, str(path))


def _check_no_secret(value: Any, where: str, key: str = "") -> None:
    """Raises `SettingsError` for a text that is a key or password: settings are shown and kept."""
    if isinstance(value, dict):
        for name, inner in value.items():
            _check_no_secret(inner, where, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            _check_no_secret(inner, where, f"{key}.{place}")
    elif isinstance(value, str) and key != "judge.api_key" and holds_secret(value):
        raise SettingsError(
            f"the key '{key}' holds a secret, and settings are shown and kept",
            "Put it into an environment variable, and give its name (api_key_env, token_env).",
            where,
        )
