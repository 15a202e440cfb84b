"""Settings of the reward stage that would have no effect, or cannot be met, are refused; others may change in a run."""

from __future__ import annotations

from typing import Any

import pytest

from vp_ray.errors import SettingsError
from vp_ray.reward.config import RewardSettings


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"sharded_checkpoints": True, "workers": {"zero_stage": 2}}, "no effect below workers.zero_stage 3"),
        ({"ema_decay": 0.99, "workers": {"zero_stage": 3}}, "whole weights on each rank"),
        ({"frozen_states": {"store": "disk"}}, "frozen_states has no effect while frozen_share is 0"),
        ({"batch_groups": 6, "micro_batches": 4}, "must be a multiple"),
        ({"aspects": ["fidelity"], "overall_weights": {"aesthetic": 1}}, "trained aspect must be above zero"),
        ({"variants": {"a": {}}}, "must set something"),
        ({"frozen_share": 0.5, "variants": {"a": {"pretrained": False}}}, "random layers must not be frozen"),
        ({"variants": {"../a": {"train_share": 0.5}}}, "cannot name a folder"),
        ({"variants": {"a": {"aspects": ["fidelty"]}}}, "fidelity"),
        ({"variants": {"a": {"frozen_share": 0.0}}, "frozen_share": 0.5, "frozen_states": {"store": "disk"}}, "no eff"),
    ],
)
def test_what_cannot_work_is_refused_at_load(values: dict[str, Any], problem: str) -> None:
    with pytest.raises(SettingsError, match=problem):
        RewardSettings.load(values)


def test_a_group_may_be_shared_by_more_parts_than_there_are_groups() -> None:
    RewardSettings.load({"batch_groups": 2, "micro_batches": 4, "workers": {"num_workers": 2}})


def test_a_variant_changes_what_it_names_and_nothing_else() -> None:
    settings = RewardSettings.load({"folds": 3, "epochs": 2, "variants": {"half": {"train_share": 0.5}}})
    varied = settings.variant("half").model_dump()
    whole = settings.model_dump() | {"train_share": 0.5, "folds": None, "variants": {}}
    assert varied == whole


def test_where_and_how_fast_it_trains_may_change_when_it_goes_on() -> None:
    elsewhere = {"workers": {"num_workers": 2, "zero_stage": 3}, "micro_batches": 2, "gradient_checkpointing": True}
    changed = RewardSettings.load({"frozen_share": 0.5, "frozen_states": {"store": "disk"}, **elsewhere})
    assert changed.recorded() == RewardSettings.load({"frozen_share": 0.5}).recorded()
