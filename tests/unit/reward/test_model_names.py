"""Ids of models on the command line."""

from __future__ import annotations

import pytest

from vp_ray.errors import SettingsError
from vp_ray.reward.names import named_models


def test_a_checkpoint_is_called_after_its_run_or_as_is_said() -> None:
    given = ["runs/demo/reward/checkpoint", "mine=/models/a=b", "s3://bucket/wide/reward/checkpoint/", "embedded:blip"]
    assert [*named_models(given)] == ["demo", "mine", "wide", "blip"]
    assert named_models(given)["mine"] == "/models/a=b"
    assert [*named_models(["reward/checkpoint"])] == ["vp-score"]


@pytest.mark.parametrize(
    ("given", "said"), [(["a=x", "a=y"], "two models"), (["=x"], "no model"), (["a="], "no model")]
)
def test_names_must_differ_and_be_there(given: list[str], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        named_models(given)
