"""The backbones by transformers' `model_type`, and how one is loaded from `embedded:NAME`, a directory or the hub."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import transformers
from transformers import AutoConfig, AutoTokenizer

from vp_ray.errors import CheckpointError
from vp_ray.models.backbone import Backbone, Family
from vp_ray.models.blip import BLIP
from vp_ray.models.dual import CLIP, SIGLIP
from vp_ray.models.preparation import Preparation
from vp_ray.models.sources import resolve

FAMILIES: Final[Mapping[str, Family]] = {"blip": BLIP, "clip": CLIP, "siglip": SIGLIP}


@dataclass(frozen=True, slots=True)
class Pretrained:
    """A backbone with its weights, and what has to be known to use it."""

    family: str
    config: dict[str, Any]
    backbone: Backbone
    tokenizer: Any
    preparation: Preparation
    longest: int
    """Longest prompt that its text network can read, in tokens."""


def load_backbone(source: str, revision: str | None = None) -> Pretrained:
    """The backbone at `embedded:NAME`, in a directory or on the hub, in float32.

    Raises `CheckpointError` when it cannot be loaded, lacks weights, or is of no known family.
    """
    place, options = resolve(source), _options(revision)
    transformers.utils.logging.disable_progress_bar()
    family = _family(source, revision)
    kind = FAMILIES[family]
    try:
        config, backbone, missing = kind.load(place, options)
        tokenizer = AutoTokenizer.from_pretrained(place, **options)
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise _not_loaded(source, error) from None
    except CheckpointError as error:
        raise CheckpointError(error.problem, error.remedy, source) from None
    if missing:
        raise CheckpointError(
            f"{len(missing)} weights are missing, the first is {min(missing)}", "Fetch it again.", source
        )
    longest: int = config.text_config.max_position_embeddings
    preparation = backbone_preparation(source, revision)
    return Pretrained(family, _plain(config), backbone, tokenizer, preparation, longest)


def backbone_preparation(source: str, revision: str | None = None) -> Preparation:
    """How pictures are prepared for the backbone at `source`, without loading its weights."""
    place, options = resolve(source), _options(revision)
    family = FAMILIES[_family(source, revision)]
    try:
        config = AutoConfig.from_pretrained(place, **options)
        processor = family.processor.from_pretrained(place, **options)
    except (OSError, ValueError, RuntimeError) as error:
        raise _not_loaded(source, error) from None
    mean, std = (tuple(float(value) for value in values) for values in (processor.image_mean, processor.image_std))
    return Preparation(config.vision_config.image_size, mean, std, family.fit)


def _family(source: str, revision: str | None) -> str:
    try:
        name: str = AutoConfig.from_pretrained(resolve(source), **_options(revision)).model_type
    except (OSError, ValueError, RuntimeError) as error:
        raise _not_loaded(source, error) from None
    if name not in FAMILIES:
        raise CheckpointError(f"'{name}' cannot be a backbone", f"Use one of: {', '.join(FAMILIES)}.", source)
    return name


def _options(revision: str | None) -> dict[str, str]:
    return {"revision": revision} if revision else {}


def _not_loaded(source: str, error: Exception) -> CheckpointError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    remedy = "Give a directory or hub id of a BLIP, CLIP or SigLIP."
    if isinstance(error, ImportError):
        remedy = "Install what its tokenizer needs: `pip install sentencepiece` for the first SigLIP models."
    return CheckpointError(f"the backbone cannot be loaded ({reason})", remedy, source)


_OF_THE_FILE: Final = ("architectures", "dtype", "_name_or_path", "transformers_version")


def _plain(config: Any) -> dict[str, Any]:
    """The settings as JSON has them, without those of the file that they came from."""
    values: dict[str, Any] = json.loads(json.dumps(config.to_dict()))
    for part in (values, values["text_config"], values["vision_config"]):
        for key in _OF_THE_FILE:
            part.pop(key, None)
    return values
