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
