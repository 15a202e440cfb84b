"""Settings and the command line stay light, so that `--help` and `--dry-run` answer at once."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("ray", "torch", "deepspeed", "diffusers", "transformers", "openai", "numpy")


def imported_by(code: str) -> set[str]:
    listing = f"import sys\n{code}\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


@pytest.mark.parametrize("path", sorted((ROOT / "vp_ray").rglob("config.py")), ids=lambda path: path.parent.name)
def test_settings_import_nothing_heavy(path: Path) -> None:
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    assert not imported_by(f"import {module}") & {*HEAVY, "pyarrow"}


def test_the_command_line_and_the_plan_import_nothing_heavy() -> None:
    code = "import vp_ray.cli, vp_ray.pipeline.summary"
    # pyarrow, which run directories need, brings numpy along.
    assert not imported_by(code) & {*HEAVY} - {"numpy"}


def test_the_python_interface_is_light_until_it_is_called() -> None:
    assert not imported_by("import vp_ray.api") & {*HEAVY} - {"numpy"}


def test_what_draws_pictures_is_loaded_by_those_who_draw() -> None:
    drawing = {"diffusers", "peft"}
    assert not imported_by("import vp_ray.generate.job, vp_ray.annotate.job") & {*drawing, "torch", "transformers"}
    assert not imported_by("import vp_ray.reward.job, vp_ray.evaluate.job") & drawing


def test_every_folder_of_a_stage_has_its_settings_and_its_job() -> None:
    from vp_ray.pipeline.stages import STAGE_NAMES

    for name in STAGE_NAMES:
        folder = ROOT / "vp_ray" / ("imports" if name == "import" else name)
        assert (folder / "config.py").is_file()
        assert (folder / "job.py").is_file()
