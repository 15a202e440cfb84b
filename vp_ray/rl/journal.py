"""What every training keeps beside its algorithm: state, held-out checks, metrics, checkpoints, the adapter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from vp_ray.errors import RewardError
from vp_ray.local_copies import to_write
from vp_ray.models.averages import AveragedWeights
from vp_ray.models.policy import DiffusionPolicy
from vp_ray.protocols import Collective, Engine
from vp_ray.rl import checkpoints
from vp_ray.rl.config import RlSettings
from vp_ray.rl.evaluation import HeldOut, HeldOutCheck
from vp_ray.rl.figures import FIGURES, METRICS, figures_of
from vp_ray.rl.guards import EarlyStop
from vp_ray.rl.trackers import Tracker, tell
from vp_ray.storage import Folder
from vp_ray.telemetry import JsonLines, Progress


class Journal:
    """One training of a policy, from its newest checkpoint on.

    Rank 0 writes `metrics.jsonl` (row 0 before training, then a row an epoch), `grids/`, `checkpoints/`, `adapter/` and
    `figures.json`, and tells the `trackers`. While `interrupted` says on any rank that its machine is about to go, each
    epoch ends with a checkpoint.
    """

    def __init__(
        self,
        settings: RlSettings,
        policy: DiffusionPolicy,
        engine: Engine,
        *,
        held_out: HeldOut | None,
        collective: Collective,
        folder: Folder,
        progress: Progress | None = None,
        trackers: Sequence[Tracker] = (),
        interrupted: Callable[[], bool] = lambda: False,
    ) -> None:
        self._settings, self._policy, self._engine = settings, policy, engine
        self._collective, self._folder, self._progress = collective, folder, progress
        self._trackers, self._interrupted = trackers, interrupted
        policy.network = engine.module
        self.averages = AveragedWeights(policy.denoiser, settings.ema_decay)
        self.state = checkpoints.load_newest(folder.make(), engine, self.averages, policy.old)
        self._guard = EarlyStop(settings.early_stop_patience, settings.early_stop_tolerance, settings.diversity_floor)
        self._guard.restore(self.state.early_stop)
        self._check = HeldOutCheck(
            settings, policy, self.averages, self._guard, held_out=held_out, collective=collective, folder=folder
        )
        self._metrics = JsonLines(folder, METRICS)
        self._metrics.keep(self.state.metrics_rows)

    @property
    def goes_on(self) -> bool:
        """Whether there is another epoch."""
        return self.state.epoch < self._settings.epochs and not self._guard.stopped

    def begin(self) -> None:
        """Writes the row from before training, where it is not there yet."""
        if self.state.metrics_rows == 0:
            self._add({"epoch": 0, "update": 0, **self._check.run(0, None)})

    def end_epoch(self, updates: int, reward: float | None, row: dict[str, Any]) -> None:
        """Counts an epoch of so many updates, evaluates where that is due, and writes its row and its checkpoint.

        `reward` is what training raises, against which the held-out score is watched.
        """
        settings, state = self._settings, self.state
        state.epoch += 1
        state.update += updates
        is_last = state.epoch == settings.epochs
        due = is_last or state.epoch % settings.evaluate_every == 0
        checked = self._check.run(state.epoch, reward) if due else {"held_out_score": None}
        self._add({"epoch": state.epoch, "update": state.update, **row, **checked})
        leaving = bool(self._collective.gather(np.array([self._interrupted()])).any())
        if is_last or leaving or self._guard.stopped or state.epoch % settings.checkpoint_every == 0:
            self.save()
        if self._progress is not None:
            self._progress.update(state.epoch, settings.epochs, "" if reward is None else f"reward {reward:.3f}")

    def _add(self, row: dict[str, Any]) -> None:
        if self._collective.rank == 0:
            self._metrics.append(row)
            tell(self._trackers, row, self._folder)
        self.state.metrics_rows += 1
        self.state.early_stop = self._guard.state()

    def save(self) -> None:
        """Writes a checkpoint; every rank calls it."""
        checkpoints.save(self._folder, self.state, self._engine, self.averages, self._collective, self._policy.old)

    @contextmanager
    def saved_if_rewards_stay_out(self) -> Iterator[None]:
        """Lets a `RewardError` through after a checkpoint."""
        try:
            yield
        except RewardError:
            self.save()
            raise

    def end(self) -> dict[str, Any]:
        """Writes adapter and figures, and returns these on every rank."""
        if self._collective.rank == 0:
            self._write_adapter()
            self._folder.write_json(FIGURES, figures_of(self._metrics.rows, self._guard, self._settings))
        self._collective.barrier()
        figures: dict[str, Any] = self._folder.read_json(FIGURES)
        return figures

    def _write_adapter(self) -> None:
        """`adapter/`: the averaged weights of the best held-out score, or the last."""
        adapter = (self._folder / "adapter").make()
        if self._settings.keep == "best":
            best = self._folder / "best"
            for name in best.names():
                adapter.write_bytes(name, best.read_bytes(name))
            adapter.seal(best.names())
            return
        with self.averages.applied(), to_write(adapter) as path:
            self._policy.save_adapter(path)
