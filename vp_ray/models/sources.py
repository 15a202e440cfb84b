"""Where model weights come from."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

from vp_ray.errors import CheckpointError

EMBEDDED = "embedded:"
_WEIGHTS_PACKAGE = "vp_ray.shapeworld"


def resolve(source: str) -> str:
    """A path or hub id that `from_pretrained` takes; `embedded:NAME` becomes the package's own weights.

    Raises `CheckpointError` when `embedded:NAME` names nothing.
    """
    if not source.startswith(EMBEDDED):
        return source
    name = source.removeprefix(EMBEDDED)
    weights = Path(str(files(_WEIGHTS_PACKAGE))) / "weights"
    if not (weights / name).is_dir():
        known = (
            ", ".join(sorted(path.name for path in weights.iterdir() if path.is_dir())) if weights.is_dir() else "none"
        )
        raise CheckpointError(f"there is no embedded model '{name}'", f"These are there: {known}.", source)
    return str(weights / name)


def native_size(source: str) -> tuple[int, int] | None:
    """(height, width) in pixels that a local model directory draws by itself; None for hub ids and other layouts."""
    folder = Path(resolve(source))
    for network in ("unet", "transformer"):
        if not (folder / network / "config.json").is_file():
            continue
        try:
            side = json.loads((folder / network / "config.json").read_text())["sample_size"]
            levels = len(json.loads((folder / "vae" / "config.json").read_text())["block_out_channels"])
        except (OSError, ValueError, KeyError):
            return None
        height, width = side if isinstance(side, list) else (side, side)
        return height * 2 ** (levels - 1), width * 2 ** (levels - 1)
    return None
