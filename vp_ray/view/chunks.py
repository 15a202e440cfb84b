"""What the page loads, as scripts that hand over JSON: a page that is opened from a file may read nothing else.

data/index.js          names, and the columns of all pairs that every filter needs
data/aspect-NAME.js    margin, probability and disagreement of all pairs for one aspect
data/prompts/N.js      the texts of some prompts, for the rows of the list
data/groups/N.js       everything about a few prompts, for the pane beside it
"""

from __future__ import annotations

import base64
import json
import threading
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vp_ray import __version__
from vp_ray.ids import content_id
from vp_ray.records import ASPECTS, ImageStatus
from vp_ray.view.reading import ViewData, open_table

PROMPTS_PER_CHUNK: Final = 256
GROUPS_PER_CHUNK: Final = 16
MARGIN_UNIT: Final = 0.01
PROBABILITY_UNIT: Final = 0.0001
_NO_MARGIN: Final = -32768
_NO_PROBABILITY: Final = 65535

_TEXTS: Final = ("annotator", "status", "order", "levels")
_SHOWN: Final = ("generator", "scheduler", "steps", "guidance_scale", "seed", "width", "height", "flags")


class Chunks:
    """Makes the chunks of one run on demand; they may be asked for from several threads."""

    def __init__(self, data: ViewData, title: str, served: bool) -> None:
        self._data, self._title, self._served = data, title, served
        self._lock = threading.Lock()
        self._texts: pa.Table | None = None
        manifest = data.run.stage("preferences").finished()
        self.version = content_id(__version__, manifest.fingerprint, data.prompts.num_rows)
        """Names the content, so that a browser's cache of another run is not taken for this one's."""

    def names(self) -> list[str]:
        """The names of all chunks, such as `prompts/3`."""
        groups = self._data.prompts.num_rows
        return [
            "index",
            *(f"aspect-{aspect}" for aspect in self._data.aspects),
            *(f"prompts/{place}" for place in range(-(-groups // PROMPTS_PER_CHUNK))),
            *(f"groups/{place}" for place in range(-(-groups // GROUPS_PER_CHUNK))),
        ]

    def script(self, name: str) -> bytes:
        """The script of a chunk; raises `KeyError` for a name that there is not."""
        # ASCII alone, so that no text of a run can end a line or a string, whatever it holds.
        value = json.dumps(self._value(name), ensure_ascii=True, separators=(",", ":"), allow_nan=False)
        return f"vpTake({json.dumps(name)},{value});\n".encode("ascii")

    def _value(self, name: str) -> dict[str, Any]:
        kind, _, rest = name.partition("/")
        if name == "index":
            return self._index()
        if name.startswith("aspect-") and name.removeprefix("aspect-") in self._data.aspects:
            return self._aspect(name.removeprefix("aspect-"))
        if kind not in ("prompts", "groups") or not rest.isascii() or not rest.isdigit():
            raise KeyError(name)
        size = PROMPTS_PER_CHUNK if kind == "prompts" else GROUPS_PER_CHUNK
        first = int(rest) * size
        if first >= self._data.prompts.num_rows:
            raise KeyError(name)
        part = range(first, min(first + size, self._data.prompts.num_rows))
        if kind == "prompts":
            return {"prompts": self._data.prompts["prompt"].slice(first, size).to_pylist()}
        return {"groups": [self._group(place) for place in part]}

    def _index(self) -> dict[str, Any]:
        data = self._data
        pairs = data.pairs
        return {
            "title": self._title,
            "version": self.version,
            "package": __version__,
            "served": self._served,
            "prompts": data.prompts.num_rows,
            "total": data.total,
            "pairs": len(pairs.group_P),
            "aspects": data.aspects,
            "rated": list(ASPECTS),
            "generators": data.generators,
            "statuses": data.statuses,
            "judged": bool(len(data.judgement_J)),
            "promptsPerChunk": PROMPTS_PER_CHUNK,
            "groupsPerChunk": GROUPS_PER_CHUNK,
            "columns": {
                "group": _packed(pairs.group_P, np.uint32),
                "first": _packed(pairs.first_P, np.uint32),
                "second": _packed(pairs.second_P, np.uint32),
                "generator": _packed(data.generator_I, np.uint16),
                "blurred": _packed(data.blurred_I, np.uint8),
                "status": _packed(data.status_G, np.uint16),
            },
        }

    def _aspect(self, aspect: str) -> dict[str, Any]:
        pairs = self._data.pairs
        margin, probability = pairs.margin[aspect], pairs.probability[aspect]
        margins = np.where(np.isnan(margin), _NO_MARGIN, np.clip(np.round(margin / MARGIN_UNIT), -32767, 32767))
        shares = np.where(np.isnan(probability), _NO_PROBABILITY, np.round(probability / PROBABILITY_UNIT))
        return {
            "columns": {
                "margin": _packed(margins, np.int16),
                "probability": _packed(shares, np.uint16),
                "disagree": _packed(pairs.disagree[aspect], np.uint8),
            }
        }

    def _group(self, place: int) -> dict[str, Any]:
        data = self._data
        start, end = int(data.start_G[place]), int(data.start_G[place + 1])
        images = data.images.slice(start, end - start)
        rows = images.select([*_SHOWN, "status", "image_id"]).to_pylist()
        slots = {row["image_id"]: slot for slot, row in enumerate(rows)}
        return {
            "prompt": data.prompts["prompt"][place].as_py(),
            "split": data.prompts["split"][place].as_py(),
            "start": start,
            "images": [
                {key: _finite(row[key]) for key in _SHOWN}
                | {
                    "id": row["image_id"],
                    "made": row["status"] in (None, str(ImageStatus.MADE)),
                    "status": row["status"],
                }
                for row in rows
            ],
            "judgements": [_judgement(row, slots) for row in self._judgement_rows(place)],
        }

    def _judgement_rows(self, place: int) -> list[dict[str, Any]]:
        data = self._data
        start, end = int(data.judgement_start_G[place]), int(data.judgement_start_G[place + 1])
        if start == end:
            return []
        rows: list[dict[str, Any]] = self.texts().take(pa.array(data.judgement_J[start:end])).to_pylist()
        return rows

    def texts(self) -> pa.Table:
        """The judgements with their rationales, which are read once, on first use."""
        with self._lock:
            if self._texts is None:
                self._texts = open_table(self._data.run.stage("annotate"), "judgements.parquet", list(_TEXTS))
            return self._texts


def _image(row: dict[str, Any]) -> dict[str, Any]:
    made = row["status"] in (None, str(ImageStatus.MADE))
    return {key: _finite(row[key]) for key in _SHOWN} | {"made": made, "status": row["status"]}


def _judgement(row: dict[str, Any], slots: dict[str, int]) -> dict[str, Any]:
    """An answer with images as places within their prompt: `levels[aspect][slot]` is [level, rationale] or null."""
    levels: dict[str, list[Any]] = {}
    for entry in row["levels"] or ():
        if entry["image_id"] in slots:
            cells = levels.setdefault(entry["aspect"], [None] * len(slots))
            cells[slots[entry["image_id"]]] = [entry["level"], entry["rationale"]]
    order = [slots[image_id] for image_id in row["order"] or () if image_id in slots]
    return {"annotator": row["annotator"], "status": row["status"], "order": order, "levels": levels}


def _packed(values: NDArray[Any], kind: Any) -> dict[str, str]:
    """The values as little-endian bytes in base64, with the name of JavaScript's array of that kind."""
    array = np.ascontiguousarray(values).astype(np.dtype(kind).newbyteorder("<"))
    name = f"{np.dtype(kind).name.capitalize()}Array"
    return {"kind": name, "data": base64.b64encode(array.tobytes()).decode("ascii")}


def _finite(value: Any) -> Any:
    """A float as JSON can hold it, rounded to what float32 columns mean; a seed as text, since it exceeds 2^53."""
    if isinstance(value, float):
        return round(value, 4) if np.isfinite(value) else None
    return str(value) if isinstance(value, int) and abs(value) > 2**53 else value
