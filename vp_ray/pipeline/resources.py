"""What stages need beside their settings, started on first use and ended with the run."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from vp_ray.config import Settings
from vp_ray.judging.config import CLUSTER, ModelSettings, pointed_at
from vp_ray.pipeline.settings import JobSettings
from vp_ray.storage import RunFolder

EMBEDDED = "embedded"


class Resources:
    """Ray, the embedded judge and the reward service of one run; a context manager that ends what it started."""

    def __init__(self, job: JobSettings, run: RunFolder) -> None:
        self._job, self._run, self._stack = job, run, ExitStack()
        self._of_stage = ExitStack()
        self._started: dict[str, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end_stage()
        self._stack.close()

    def end_stage(self) -> None:
        """Ends the open-weight judge or the reward service of one stage: the next may want their GPUs."""
        self._of_stage.close()

    def pointed(self, stage: str) -> Settings | None:
        """A stage's settings, with the address of the open-weight judge, which is started, where a model is it."""
        settings = self._job.stage(stage)
        if settings is None or not any(model.base_url == CLUSTER for model in self._job.models_of(stage)):
            return settings
        url = self._open_judge()
        token_env = self._job.open_judge.token_env if self._job.open_judge is not None else None

        def at(value: Any) -> Any:
            if isinstance(value, tuple):
                return tuple(at(inner) for inner in value)
            own = isinstance(value, ModelSettings) and value.base_url == CLUSTER
            return pointed_at(value, url, token_env) if own else value

        changed = {name: at(getattr(settings, name)) for name in type(settings).model_fields}
        return settings.model_copy(update=changed)

    def _open_judge(self) -> str:
        from vp_ray.distributed.open_judge import check_vllm, running_open_judge

        assert self._job.open_judge is not None, "checked when the job was read"  # noqa: S101
        check_vllm()
        self.ray()
        return self._of_stage.enter_context(running_open_judge(self._job.open_judge))

    def asks_for(self, stage: str) -> bool:
        """Whether the job has a section for the stage."""
        return self._job.stage(stage) is not None

    def ray(self) -> None:
        """Connects to the cluster, and deletes what a driver that was killed has left on it, or starts a local one."""
        if "ray" not in self._started:
            from vp_ray.distributed.cluster import connect, has_serve

            self._started["ray"] = self._stack.enter_context(connect(self._job.ray))
            if has_serve():
                from vp_ray.distributed.orphans import remove_orphans

                remove_orphans()

    def judge_url(self, annotators: Iterable[Any]) -> str | None:
        """The base URL of the embedded judge, where one of the annotators is it."""
        if self._job.judge is None or not any(annotator.base_url == EMBEDDED for annotator in annotators):
            return None
        if "judge" not in self._started:
            from vp_ray.shapeworld.judge_server import running_judge

            self._started["judge"] = self._stack.enter_context(running_judge(self._job.judge))
        url: str = self._started["judge"]
        return url

    @property
    def has_reward(self) -> bool:
        """Whether the run trains a VP-Score of its own, or has one."""
        return self.asks_for("reward") or (self._run.stage("reward") / "checkpoint").exists("config.json")

    def reward_app(self) -> str:
        """The name of a new Serve application that serves the run's VP-Score until the stage ends."""
        from vp_ray.reward.running import running_service

        if self._job.open_judge is not None and self._job.asks_open_judge:
            # Serve keeps the proxies that it was first started with, and the judge needs one.
            from vp_ray.distributed.open_judge import start_http

            start_http(self._job.open_judge)
        checkpoint = (self._run.stage("reward") / "checkpoint").uri
        return self._of_stage.enter_context(running_service(checkpoint, self._job.service))
