"""transformers models with weights that lay elsewhere, and the tokenizers that belong to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import torch
import transformers
from torch import Tensor
from transformers import AutoTokenizer

from vp_ray.errors import CheckpointError
from vp_ray.models.weight_files import Place, first_line

_VOCABULARIES: Final = ("tokenizer.json", "vocab.json", "vocab.txt", "spiece.model")


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps transformers from printing bars and tables while it loads; what is wrong is raised instead."""
    logging = transformers.utils.logging
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def filled(architecture: Any, config: Any, tensors: Mapping[str, Tensor], where: str, **options: Any) -> Any:
    """A transformers model of this config with these weights, which it shares; unknown names are left aside.

    Raises `CheckpointError` when one is missing or of another shape.
    """
    with quiet():
        try:
            model, report = architecture.from_pretrained(
                None,
                config=config,
                state_dict=dict(tensors),
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                **options,
            )
        except (RuntimeError, ValueError) as error:
            raise CheckpointError(f"the weights do not fit ({first_line(error)})", "Fetch it again.", where) from None
    wrong = {str(name[0] if isinstance(name, tuple) else name) for name in report["mismatched_keys"]}
    for problem, names in (("missing", report["missing_keys"]), ("of another shape", wrong)):
        if names:
            raise CheckpointError(
                f"{len(names)} weights are {problem}, the first is {min(names)}", "Give the published file.", where
            )
    return model.eval()


def tokenizer_of(place: Place, given: str | None, published: str) -> Any:
    """The tokenizer at `given`, else that beside the weights, else the published one's of the hub."""
    folder = place.local if place.local is None or place.local.is_dir() else place.local.parent
    has_one = folder is not None and any((folder / name).is_file() for name in _VOCABULARIES)
    source = given or (str(folder) if has_one else published)
    try:
        return AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError, ImportError) as error:
        raise CheckpointError(
            f"the tokenizer cannot be loaded ({first_line(error)})",
            "Put its files beside the weights, or name its folder: `KIND:PLACE,tokenizer=FOLDER`.",
            source,
        ) from None
