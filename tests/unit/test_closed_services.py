"""No service takes work from beyond this machine without a token."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import pytest

from vp_ray.addresses import is_loopback
from vp_ray.cli import main
from vp_ray.distributed.config import OpenJudgeSettings
from vp_ray.errors import SettingsError
from vp_ray.shapeworld.config import JudgeSettings
from vp_ray.shapeworld.judge_server import running_judge

BEYOND = ("0.0.0.0", "::", "10.0.0.1", "judge.example")  # noqa: S104 - they must be refused


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.8.0.1", True), ("::1", True), ("[::1]", True), ("localhost", True)]
    + [(host, False) for host in BEYOND]
    + [("head", False), ("", False)],
)
def test_what_counts_as_this_machine(host: str, loopback: bool) -> None:
    assert is_loopback(host) == loopback


@pytest.mark.parametrize("host", BEYOND)
def test_the_embedded_judge_beyond_loopback_needs_a_key(host: str) -> None:
    with pytest.raises(SettingsError, match="needs an api_key"):
        JudgeSettings.load({"host": host})
    assert JudgeSettings.load({"host": host, "api_key": "secret"}).host == host


def test_the_embedded_judge_beyond_loopback_answers_nobody_without_the_key() -> None:
    with running_judge(JudgeSettings(host="0.0.0.0", api_key="the-key")) as url:  # noqa: S104 - with its key
        asked = url.replace("0.0.0.0", "127.0.0.1") + "/models"  # noqa: S104
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(asked, timeout=10)  # noqa: S310
        request = urllib.request.Request(asked, headers={"Authorization": "Bearer the-key"})  # noqa: S310
        with urllib.request.urlopen(request, timeout=10) as reply:  # noqa: S310
            assert json.load(reply)["data"]


@pytest.mark.parametrize("host", [*BEYOND, "head"])
def test_the_open_weight_judge_beyond_loopback_needs_a_token(host: str) -> None:
    with pytest.raises(SettingsError, match="needs token_env"):
        OpenJudgeSettings.load({"model": "m", "host": host})
    assert OpenJudgeSettings.load({"model": "m", "host": host, "token_env": "T"}).token_env == "T"


@pytest.mark.parametrize("host", BEYOND)
def test_the_reward_service_beyond_loopback_is_refused_before_anything_starts(
    host: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["serve", "runs/none/reward/checkpoint", "--host", host])
    assert ended.value.code == 2
    assert "needs a token" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["view", "vote"])
def test_pages_have_no_choice_but_loopback(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "runs/none", "--host", "0.0.0.0"])  # noqa: S104 - it must be refused
    assert ended.value.code == 2
    assert "No such option" in capsys.readouterr().err
