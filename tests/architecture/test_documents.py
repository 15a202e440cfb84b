import subprocess
import sys
from pathlib import Path

from vp_ray.pipeline.reference import reference

ROOT = Path(__file__).parents[2]


def test_the_settings_reference_is_that_of_the_code() -> None:
    assert (ROOT / "docs" / "settings.md").read_text() == reference(), (
        "run `python -m vp_ray.pipeline.reference > docs/settings.md`"
    )


def test_every_key_is_explained() -> None:
    rows = [line for line in reference().splitlines() if line.startswith("| `")]
    assert len(rows) > 100
    assert not [row for row in rows if row.rstrip().endswith("|  |")]


def test_the_documents_become_a_site_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "index.html").is_file()
