"""Pictures that nobody has judged yet: a table of them, or a folder with a prompt beside each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from vp_ray.errors import InputError
from vp_ray.imports.config import ImportSettings
from vp_ray.imports.groups import Group, Shown

PICTURES: Final = (".png", ".jpg", ".jpeg", ".webp")


def of_pictures(row: Any, settings: ImportSettings) -> Group:
    """`prompt` and `image`, a file name, and perhaps `generator`; raises `KeyError` or `ValueError` for other rows."""
    prompt, name = row["prompt"], row["image"]
    if not isinstance(prompt, str) or not prompt.strip():
        raise ValueError(f"the prompt is {prompt!r}")
    if not isinstance(name, str) or not name:
        raise ValueError(f"'image' is {name!r}, not the name of an image")
    return Group(prompt.strip(), (Shown(name, str(row.get("generator") or "unknown")),))


def captioned(folder: Path) -> Iterator[tuple[str, Any]]:
    """(place, row) of every picture in the folder, in the order of names, with the text of `NAME.txt` as its prompt.

    A picture without a prompt is an `InputError` in the place of its row; raises one where there is no picture.
    """
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES)
    if not found:
        raise InputError("the folder holds no PNG, JPEG or WebP file", "Give a folder of pictures.", str(folder))
    for picture in found:
        text = picture.with_suffix(".txt")
        try:
            yield str(picture), {"prompt": text.read_text(encoding="utf-8"), "image": picture.name}
        except (OSError, UnicodeDecodeError):
            remedy = f"Write it into {text.name}, or give a table with the columns prompt and image."
            yield str(picture), InputError("the picture has no prompt", remedy, str(picture))
