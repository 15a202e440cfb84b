"""What a machine lacks is named with its remedy, and what it has with its version."""

from __future__ import annotations

from collections import namedtuple
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from vp_ray.pipeline import doctor
from vp_ray.pipeline.job_checks import Check, job_checks
from vp_ray.pipeline.settings import JobSettings

Usage = namedtuple("Usage", "total used free")


def found(**_: Any) -> dict[str, doctor.Check]:
    return {check.name: check for check in doctor.checks()}


def test_packages_are_named_with_their_versions() -> None:
    checks = found()
    for package in ("ray", "torch", "diffusers", "transformers", "peft", "deepspeed", "openai", "pyarrow"):
        assert checks[package].good
        assert checks[package].found == version(package)
    assert checks["Python"].good


def test_whatever_lacks_comes_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_PACKAGES", ("no-such-package",))
    checks = found()
    assert not checks["no-such-package"].good
    assert checks["no-such-package"].found == "not installed"
    assert all(check.remedy for check in checks.values() if not check.good)


@pytest.mark.parametrize(("free_gib", "good"), [(4.9, False), (5.0, True)])
def test_five_gib_of_disk_are_enough(monkeypatch: pytest.MonkeyPatch, free_gib: float, good: bool) -> None:
    size = int(free_gib * 2**30)
    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(2**40, 0, size))
    assert found()["free disk"].good is good


def test_the_embedded_models_are_there() -> None:
    checks = found()
    for name in ("weak", "strong", "blip"):
        assert checks[f"embedded model {name}"].good, checks[f"embedded model {name}"].remedy


def of_job(path: Path, gpus: int = 0, **sections: Any) -> dict[str, Check]:
    job = JobSettings.load({"run": str(path / "run"), "report": None, **sections})
    return {check.name: check for check in job_checks(job, lambda: gpus)}


def test_a_job_s_key_files_and_gpus_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("VP_TEST_KEY", raising=False)
    sections: dict[str, Any] = {
        "prompts": {"sources": [{"kind": "text", "path": str(tmp_path / "prompts.txt")}]},
        "generate": {"generators": [{"preset": "sd15", "pool": {"gpus_per_actor": 1}}]},
        "annotate": {"annotators": [{"name": "a", "model": "m", "api_key_env": "VP_TEST_KEY"}], "rubric": "mine.yaml"},
    }
    monkeypatch.chdir(tmp_path)
    lacking = {name for name, check in of_job(tmp_path, **sections).items() if not check.good}
    gpus = "GPUs for generate.generators.0.pool.gpus_per_actor"
    assert lacking == {"variable VP_TEST_KEY", "prompts.sources.0.path", "annotate.rubric", gpus}
    assert all(check.remedy for check in of_job(tmp_path, **sections).values() if not check.good)
    (tmp_path / "prompts.txt").write_text("a circle\n")
    (tmp_path / "mine.yaml").write_text("")
    monkeypatch.setenv("VP_TEST_KEY", "secret")
    ready = of_job(tmp_path, gpus=1, **sections)
    assert all(check.good for check in ready.values())
    assert "secret" not in str(ready)


def test_a_run_that_cannot_be_written_and_a_storage_that_is_not_known_are_said(tmp_path: Path) -> None:
    (strange,) = (check for name, check in of_job(tmp_path, run="nowhere://x/run").items() if name.startswith("run "))
    assert not strange.good
    assert strange.remedy
    assert of_job(tmp_path)[f"run {tmp_path / 'run'}"].good
