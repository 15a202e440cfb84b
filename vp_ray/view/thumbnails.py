"""Small pictures, each made when the page first asks for it."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from typing import Final

from PIL import Image, UnidentifiedImageError

from vp_ray.errors import InputError
from vp_ray.pictures import PLACE, StoredPictures
from vp_ray.records import ImageStatus
from vp_ray.view.reading import ViewData

_LOSSLESS_SIDE: Final = 128
"""Pictures up to this side are kept exactly; there is nothing to gain and every pixel shows."""
_KEPT: Final = 4096


class Thumbnails:
    """WebP pictures by their place among the images of a view; may be asked for from several threads."""

    def __init__(self, data: ViewData, side: int) -> None:
        self._images, self._side = data.images, side
        self._pictures = StoredPictures(row_groups_kept=16)
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def original(self, place: int) -> bytes:
        """The encoded picture as the run holds it; raises `KeyError` where there is none."""
        if not 0 <= place < self._images.num_rows:
            raise KeyError(place)
        if self._images["status"][place].as_py() not in (None, str(ImageStatus.MADE)):
            raise KeyError(place)
        where = (self._images[name][place].as_py() for name in ("folder", *PLACE))
        return self._pictures.read(*where)

    def small(self, place: int) -> bytes:
        """The picture with no side above the limit; raises `KeyError` where there is none, and `InputError`."""
        with self._lock:
            if place in self._kept:
                self._kept.move_to_end(place)
                return self._kept[place]
        data = shrunk(self.original(place), self._side, str(place))
        with self._lock:
            self._kept[place] = data
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return data


def shrunk(data: bytes, side: int, where: str) -> bytes:
    """An encoded picture as WebP with no side above `side`; raises `InputError` for bytes that are no picture."""
    try:
        with Image.open(io.BytesIO(data)) as opened:
            # JPEGs are decoded at a fraction of their size where that is enough.
            opened.draft("RGB", (side, side))
            picture = opened.convert("RGB")
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"this cannot be read as an image ({error})", "Make it anew.", f"image {where}") from None
    picture.thumbnail((side, side), Image.Resampling.BOX if max(picture.size) >= 2 * side else Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", lossless=max(picture.size) <= _LOSSLESS_SIDE, quality=82, method=1)
    return buffer.getvalue()
