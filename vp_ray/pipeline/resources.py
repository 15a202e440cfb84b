"""What stages need beside their settings, started on first use and ended with the run."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from vp_ray.pipeline.settings import JobSettings
from vp_ray.storage import RunFolder

EMBEDDED = "embedded"


class Resources:
    """Ray, the embedded judge and the reward service of one run; a context manager that ends what it started."""

    def __init__(self, job: JobSettings, run: RunFolder) -> None:
        self._job, self._run, self._stack = job, run, ExitStack()
        self._started: dict[str, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def asks_for(self, stage: str) -> bool:
        """Whether the job has a section for the stage."""
        return self._job.stage(stage) is not None

    def ray(self) -> None:
        """Connects to the cluster, or starts a local one."""
        if "ray" not in self._started:
            from vp_ray.distributed.cluster import connect

            self._started["ray"] = self._stack.enter_context(connect(self._job.ray))

    def judge_url(self, annotators: Iterable[Any]) -> str | None:
        """The base URL of the embedded judge, where one of the annotators is it."""
        if self._job.judge is None or not any(annotator.base_url == EMBEDDED for annotator in annotators):
            return None
        if "judge" not in self._started:
            from vp_ray.shapeworld.judge_server import running_judge

            self._started["judge"] = self._stack.enter_context(running_judge(self._job.judge))
        url: str = self._started["judge"]
        return url

    def reward_app(self) -> str:
        """The name of the Serve application that serves the run's VP-Score."""
        if "service" not in self._started:
            from vp_ray.reward.service import running_service

            checkpoint = (self._run.stage("reward") / "checkpoint").uri
            self._started["service"] = self._stack.enter_context(running_service(checkpoint, self._job.service))
        name: str = self._started["service"]
        return name
