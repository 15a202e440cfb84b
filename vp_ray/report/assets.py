"""Files beside the page: pictures, and the data of every figure as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from PIL import Image, UnidentifiedImageError

from vp_ray.ids import content_id
from vp_ray.report.reading import RunReader
from vp_ray.storage import Folder

_FORMULA_SIGNS: Final = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of the page."""

    source: str
    """Its address relative to the page."""
    width: int
    height: int


@dataclass(slots=True)
class Assets:
    """Writes what the page refers to into `report/assets/`."""

    folder: Folder
    """The folder of the page."""
    side: int
    """Pictures with a longer side are shrunk to this."""
    pictures: dict[str, Picture] = field(default_factory=dict)
    unreadable: int = 0
    """Pictures that were there and could not be decoded."""

    def add_pictures(self, reader: RunReader, image_ids: Iterable[str]) -> None:
        """Makes the images with these ids available as `pictures`; those that the run lacks stay out."""
        for image_id, data in reader.pictures(set(image_ids) - self.pictures.keys()):
            picture = self._write_picture(f"images/{content_id(image_id)}.png", data)
            if picture is not None:
                self.pictures[image_id] = picture

    def add_sheet(self, name: str, data: bytes) -> Picture | None:
        """A picture by its own name and at its own size, such as a grid of images; None where it cannot be decoded."""
        return self._write_picture(f"sheets/{name}", data, shrink=False)

    def _write_picture(self, place: str, data: bytes, shrink: bool = True) -> Picture | None:
        try:
            with Image.open(io.BytesIO(data)) as opened:
                opened.load()
                scale = min(1.0, self.side / max(opened.size)) if shrink else 1.0
                width, height = (max(1, round(scale * side)) for side in opened.size)
                if scale < 1 or opened.format != "PNG":
                    buffer = io.BytesIO()
                    opened.convert("RGB").resize((width, height), Image.Resampling.LANCZOS).save(
                        buffer, "PNG", optimize=True
                    )
                    data = buffer.getvalue()
        except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            self.unreadable += 1
            return None
        self.folder.write_bytes(f"assets/{place}", data)
        return Picture(f"assets/{place}", width, height)

    def add_data(self, name: str, rows: Sequence[Mapping[str, Any]]) -> str | None:
        """The address of a CSV file of the rows, with every key that one of them has; None without rows."""
        if not rows:
            return None
        columns = list(dict.fromkeys(key for row in rows for key in row))
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_cell(row.get(column)) for column in columns] for row in rows)
        self.folder.write_bytes(f"assets/data/{name}.csv", text.getvalue().encode())
        return f"assets/data/{name}.csv"


def _cell(value: Any) -> Any:
    """The value, but text that a spreadsheet would run as a formula begins with an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA_SIGNS) else value
