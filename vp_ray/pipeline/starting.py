"""Commented files to start from: `vp-ray init CASE`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from vp_ray.errors import InputError, did_you_mean

CASES: Final = {
    "trial": "the whole loop in the embedded world, small: no download, no key, no GPU",
    "prompts": "your own prompts and annotator: images, judgements, a preference data set, VP-Score",
    "images": "your own images and annotator: judgements, a preference data set",
    "pairs": "choices between images that you have: VP-Score, cross-validated",
    "tune": "Stable Diffusion 1.5 tuned against VP-Score on one GPU",
    "rubric": "the packaged rubric, for your own words: what each aspect and level means",
}
"""Every case with what its file does; all but the rubric are job files."""

RUBRIC: Final = "rubric"
_TEMPLATES: Final = Path(__file__).parent / "templates"
_RUBRIC: Final = Path(__file__).parents[1] / "judging" / "rubrics" / "visionprefer.yaml"


def write_job(case: str, path: Path) -> None:
    """Writes the commented file of a case; raises `InputError` for an unknown case and a file that is there."""
    if case not in CASES:
        known = "; ".join(f"{name} ({text})" for name, text in CASES.items())
        raise InputError(f"there is no case '{case}'{did_you_mean(case, CASES)}", f"These are known: {known}.")
    source = _RUBRIC if case == RUBRIC else _TEMPLATES / f"{case}.yaml"
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(source.read_text(encoding="utf-8"))
    except FileExistsError:
        raise InputError("there is such a file already", "Give another name.", str(path)) from None
    except OSError as error:
        raise InputError(f"the file cannot be written ({error.strerror})", "Give another place.", str(path)) from None
