"""Every scorer by name: `load_scorer("imagereward:/weights/ImageReward.pt")`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from vp_ray.errors import CheckpointError, SettingsError
from vp_ray.models.aesthetic import load_aesthetic
from vp_ray.models.image_reward import load_image_reward
from vp_ray.models.picture_scorer import PictureScorer
from vp_ray.models.reward import VPScore
from vp_ray.models.similarity import SIMILARITIES, load_similarity
from vp_ray.models.sources import EMBEDDED
from vp_ray.models.weight_files import Place

VP_SCORE: Final = "vpscore"


def _vp_score(place: Place) -> VPScore:
    return VPScore.from_pretrained(place.path)


_LOADERS: Final[Mapping[str, tuple[Callable[..., PictureScorer], frozenset[str]]]] = {
    VP_SCORE: (_vp_score, frozenset()),
    "imagereward": (load_image_reward, frozenset({"tokenizer", "revision"})),
    **{name: (partial(load_similarity, name), frozenset({"tokenizer", "revision"})) for name in SIMILARITIES},
    "aesthetic": (load_aesthetic, frozenset({"clip", "revision"})),
}
SCORERS: Final = tuple(_LOADERS)
"""The kinds of scorers."""

_KIND: Final = re.compile(r"([a-zA-Z][\w.]*):(?!//)")


def scorer_name(spec: str) -> str:
    """The kind of a scorer's name, for tables and columns; raises `SettingsError` for one that is not known."""
    return _split(spec)[0]


def load_scorer(spec: str, device: str = "cpu") -> PictureScorer:
    """The scorer that `KIND:PLACE[,OPTION=VALUE...]` names, in evaluation mode; a place alone is a VP-Score's.

    KIND is one of `SCORERS`; PLACE a file, a folder (VP-Score's may be any URI) or a hub id. Options: `tokenizer` and
    `clip`, places of what lies not beside the weights; `revision` of the hub id. Raises `SettingsError` for a name that
    cannot be understood, `CheckpointError` for a place that cannot be loaded.
    """
    kind, place, options = _split(spec)
    load, allowed = _LOADERS[kind]
    unknown = sorted(set(options) - allowed)
    if unknown:
        known = ", ".join(sorted(allowed)) or "none"
        raise SettingsError(f"{kind} has no option '{unknown[0]}'", f"Its options are: {known}.", spec)
    revision = options.pop("revision", None)
    try:
        scorer = load(Place(place, revision), **options)
    except MemoryError:
        raise CheckpointError("memory does not suffice for its weights", "Use a larger machine.", spec) from None
    scorer.to(device).eval()
    return scorer


def _split(spec: str) -> tuple[str, str, dict[str, str]]:
    """Kind, place and options."""
    found = _KIND.match(spec)
    if spec.startswith(EMBEDDED) or found is None:
        return VP_SCORE, spec, {}
    kind = found[1].lower()
    if kind not in _LOADERS:
        raise SettingsError(f"there is no scorer '{found[1]}'", f"These are there: {', '.join(SCORERS)}.", spec)
    place, *rest = spec[found.end() :].split(",")
    options = {name: value for name, _, value in (part.partition("=") for part in rest)}
    if not place or not all(options.values()):
        raise SettingsError("a scorer is named KIND:PLACE,OPTION=VALUE", "Give both.", spec)
    return kind, place, options
