"""Fuzzes what reads bytes from outside, by coverage: `make fuzz`, or `parsers.py TARGET -max_total_time=60`.

A target may end with its value or with the error that is promised; anything else is a finding, and its input is written
to a file that is given to the same command to see it again.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

try:
    import atheris
except ImportError:
    print("SKIPPED: atheris is not installed here; pip install 'vp-ray[fuzz]' (Linux, CPython)", file=sys.stderr)
    sys.exit(0)

with atheris.instrument_imports(include=["vp_ray", "yaml", "json"]):
    from vp_ray.config import read_yaml
    from vp_ray.errors import InputError, SettingsError, StorageError
    from vp_ray.judging.config import AnnotatorSettings
    from vp_ray.judging.parsing import UnreadableReplyError, parse_reply
    from vp_ray.judging.requests import fitted
    from vp_ray.judging.rubric import Rubric
    from vp_ray.pipeline.settings import JobSettings
    from vp_ray.storage import MANIFEST, RunFolder

_RUBRIC: Final = Rubric.load("visionprefer")
_ANNOTATOR: Final = AnnotatorSettings(name="judge", model="m", base_url="embedded", image_side_pixels=16)
_FOLDER: Final = Path(tempfile.mkdtemp(prefix="vp-fuzz-"))


def reply(data: bytes) -> None:
    """A reply of an annotator is levels of 1 to 5 for every image and aspect, or unreadable."""
    try:
        levels = parse_reply(data.decode(errors="replace"), _RUBRIC, ("x", "y")).levels
    except UnreadableReplyError:
        return
    assert {row["level"] for row in levels} <= {1, 2, 3, 4, 5}
    assert len(levels) == 2 * len(_RUBRIC.aspects)


def image(data: bytes) -> None:
    """Bytes are a picture that is small enough to send, or no readable image."""
    try:
        _, width, height = fitted(data, _ANNOTATOR)
    except InputError:
        return
    assert 0 < max(width, height) <= _ANNOTATOR.image_side_pixels


def manifest(data: bytes) -> None:
    """A manifest is one, or a storage error."""
    stage = RunFolder.at(_FOLDER).stage("prompts")
    stage.write_bytes(MANIFEST, data)
    try:
        found = stage.manifest()
    except StorageError:
        return
    assert found is not None


def job(data: bytes) -> None:
    """A job file is settings, or a settings error."""
    path = _FOLDER / "job.yaml"
    path.write_bytes(data)
    try:
        JobSettings.load(read_yaml(path), str(path))
    except SettingsError:
        return


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {"reply": reply, "image": image, "manifest": manifest, "job": job}


def main(arguments: list[Any]) -> None:
    """Fuzzes the target that the first argument names; the others are libFuzzer's."""
    if len(arguments) < 2 or arguments[1] not in TARGETS:
        print(f"usage: {arguments[0]} {'|'.join(TARGETS)} [-max_total_time=SECONDS] [FILE]", file=sys.stderr)
        sys.exit(2)
    atheris.Setup([arguments[0], *arguments[2:]], TARGETS[arguments[1]])
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
