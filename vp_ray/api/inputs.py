"""What users hand over, as files that stages read: pictures, tables, prompts."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vp_ray.errors import InputError
from vp_ray.ids import content_id
from vp_ray.storage import RunFolder

if TYPE_CHECKING:
    from PIL.Image import Image

    Picture = str | Path | Image
    """A file, or a picture in memory."""


def image_table(images: Mapping[str, Sequence[Picture]], folder: RunFolder) -> Path:
    """A table of pictures by prompt; pictures in memory become files."""
    rows = []
    for prompt, pictures in images.items():
        for picture in pictures:
            if isinstance(picture, str | Path):
                place = Path(picture).expanduser().resolve()
            else:
                data = png(picture)
                place = write(f"images/{content_id(data)}.png", data, folder)
            rows.append({"prompt": prompt, "image": str(place)})
    return table("images", rows, folder)


def table(name: str, rows: Sequence[Mapping[str, Any]], folder: RunFolder) -> Path:
    """A JSON-lines file of the rows."""
    return text_file(f"{name}.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), folder)


def text_file(name: str, text: str, folder: RunFolder) -> Path:
    """A file whose name tells its content, so that a run refuses to go on with another."""
    path = Path(name)
    return write(f"{path.stem}-{content_id(text)}{path.suffix}", text.encode(), folder)


def write(name: str, data: bytes, folder: RunFolder) -> Path:
    """A file of the run's `inputs`, which stages read like one of the user's own."""
    (folder / "inputs").make().write_bytes(name, data)
    return (folder / "inputs").local_path / name


def read_text(path: Path) -> str:
    """The text of a file of prompts; raises `InputError` where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the prompts cannot be read ({error})", "Give a text file.", str(path)) from None


def png(picture: Image) -> bytes:
    """The picture as PNG bytes."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def plain_value(value: Any) -> Any:
    """The value as JSON has it: paths as text."""
    return str(value) if isinstance(value, Path) else value
