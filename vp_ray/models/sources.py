"""Where model weights come from."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Final

from vp_ray.errors import CheckpointError
from vp_ray.models.config import GeneratorSettings

EMBEDDED: Final = "embedded:"
MODEL_REMEDY: Final = (
    "Give a directory or hub id that DiffusionPipeline.from_pretrained loads, with safetensors weights."
)
_INDEX: Final = "model_index.json"
_WEIGHTS_PACKAGE: Final = "vp_ray.shapeworld"


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


def check_source(settings: GeneratorSettings) -> None:
    """Raises `CheckpointError` when the model, its refiner or its VAE is not there; downloads no weights.

    Called before a cluster grows, so that a mistyped name does not first start machines.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    wanted = [(settings.source, _INDEX, settings.revision)]
    if settings.refiner is not None:
        wanted.append((settings.refiner, _INDEX, None))
    if settings.vae is not None:
        wanted.append((settings.vae, "config.json", None))
    for source, file, revision in wanted:
        place = resolve(source)
        if Path(place).is_dir():
            if not (Path(place) / file).is_file():
                raise CheckpointError(f"the model '{settings.name}' has no {file}", MODEL_REMEDY, place)
            continue
        try:
            hf_hub_download(place, file, revision=revision)
        except LocalEntryNotFoundError as error:
            raise CheckpointError(
                f"the model '{settings.name}' is no directory and not in the cache, and the hub does not answer",
                "Give a directory, or fetch the model where there is a network.",
                source,
            ) from error
        except (HfHubHTTPError, HFValidationError) as error:
            raise CheckpointError(
                f"the model '{settings.name}' is neither a directory nor on the hub", MODEL_REMEDY, source
            ) from error
