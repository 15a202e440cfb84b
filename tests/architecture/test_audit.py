"""The audit of dependencies fails on what is found, and says where it could not look."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", ROOT / ".ci" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def package(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "version": "1.0", "vulns": [], **more}


def test_found_advisories_fail_and_are_named_with_their_remedy(audit: ModuleType) -> None:
    hole = {"id": "PYSEC-1", "fix_versions": ["1.1"], "aliases": [], "description": ""}
    code, lines = audit.verdict([package("good"), package("bad", vulns=[hole]), package("far", skip_reason="?")], "")
    assert code == 1
    assert "bad 1.0: PYSEC-1, mended in 1.1" in lines
    assert "NOT LOOKED UP: far" in lines
    assert audit.verdict([package("good")], "")[0] == 0


@pytest.mark.parametrize(
    ("packages", "problem"), [([], "no route to host"), ([package("a", skip_reason="not found on the index")], "")]
)
def test_where_nothing_can_be_looked_up_that_is_said_and_no_machine_fails(
    audit: ModuleType, packages: list[dict[str, Any]], problem: str
) -> None:
    code, lines = audit.verdict(packages, problem)
    assert code == 0
    assert lines[0].startswith("AUDIT NOT DONE")
    assert (problem or "not found on the index") in lines[0]


def test_an_audit_that_cannot_be_made_gives_its_last_words(audit: ModuleType, tmp_path: Path) -> None:
    wrong = tmp_path / "requirements.txt"
    wrong.write_text("not a requirement at all ==\n")
    packages, problem = audit.audited(wrong)
    assert packages == []
    assert problem
