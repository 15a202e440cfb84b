"""What a machine lacks is named with its remedy, and what it has with its version."""

from __future__ import annotations

from collections import namedtuple
from importlib.metadata import version
from typing import Any

import pytest

from vp_ray.pipeline import doctor

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
