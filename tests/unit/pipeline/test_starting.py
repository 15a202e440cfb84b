"""`vp-ray init`: every file that it writes is a job that loads and can be planned."""

from __future__ import annotations

from pathlib import Path

import pytest

from vp_ray.cli import main
from vp_ray.errors import InputError
from vp_ray.judging.rubric import Rubric
from vp_ray.pipeline.running import chosen_stages
from vp_ray.pipeline.settings import load_job
from vp_ray.pipeline.starting import CASES, RUBRIC, write_job
from vp_ray.records import ASPECTS

STAGES = {
    "trial": ["prompts", "generate", "annotate", "preferences", "reward", "rl", "evaluate", "report"],
    "prompts": ["prompts", "generate", "annotate", "preferences", "reward", "report"],
    "images": ["import", "annotate", "preferences", "report"],
    "pairs": ["import", "preferences", "reward", "report"],
    "tune": ["prompts", "generate", "annotate", "preferences", "reward", "rl", "evaluate", "report"],
}


@pytest.mark.parametrize("case", sorted({*CASES} - {RUBRIC}))
def test_each_case_loads_and_runs_the_stages_that_it_promises(case: str, tmp_path: Path) -> None:
    write_job(case, tmp_path / "job.yaml")
    assert [stage.name for stage in chosen_stages(load_job(tmp_path / "job.yaml"))] == STAGES[case]


def test_the_rubric_is_one_that_can_be_sent(tmp_path: Path) -> None:
    write_job(RUBRIC, tmp_path / "mine.yaml")
    mine = Rubric.load(str(tmp_path / "mine.yaml"))
    assert mine.aspects == ASPECTS
    assert mine.version == Rubric.load("visionprefer").version


def test_a_file_that_is_there_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("mine")
    with pytest.raises(InputError, match="such a file already"):
        write_job("trial", tmp_path / "job.yaml")
    assert (tmp_path / "job.yaml").read_text() == "mine"


def test_an_unknown_case_is_answered_with_the_known_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["init", "video", str(tmp_path / "job.yaml")])
    assert stop.value.code == 2
    assert all(f"{case} (" in capsys.readouterr().err for case in ["trial"])
