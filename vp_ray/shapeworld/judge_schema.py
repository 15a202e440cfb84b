"""The schema that a request wants its answer in: levels of images, or which of two images is better in what aspect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from vp_ray.records import ASPECTS, LEVELS
from vp_ray.shapeworld.judge_errors import RequestError

_REFERENCE: Final = "#/$defs/"
BETTER: Final = ("image_1", "tie", "image_2")


@dataclass(frozen=True, slots=True)
class LevelField:
    """How one aspect of one image is to be answered."""

    aspect: str
    fields: tuple[str, ...]
    """`rationale` and `level` in the order of the schema; the level alone where no rationale is asked for."""
    choices: tuple[Any, ...]
    """What the five levels are called, lowest first."""


@dataclass(frozen=True, slots=True)
class ChoiceField:
    """How one aspect of two images that are compared is to be answered."""

    aspect: str
    fields: tuple[str, ...]
    """`rationale` and `better` in the order of the schema; the choice alone where no rationale is asked for."""


@dataclass(frozen=True, slots=True)
class AskedFor:
    """What an answer holds: one of the two."""

    slots: tuple[tuple[str, tuple[LevelField, ...]], ...] = ()
    """For each image its key and the aspects that levels are asked of."""
    choices: tuple[ChoiceField, ...] = ()
    """The aspects in which two images are compared."""

    @property
    def images(self) -> int:
        """How many images it is about."""
        return 2 if self.choices else len(self.slots)

    @property
    def aspects(self) -> set[str]:
        """All aspects that are asked about."""
        return {field.aspect for field in self.choices} | {field.aspect for _, fields in self.slots for field in fields}


def _bad_schema(problem: str) -> RequestError:
    return RequestError(
        f"Invalid schema for response_format: {problem}. The judge answers an object with image_1 .. image_n, each "
        f"an object of aspects ({', '.join(ASPECTS)}), each with 'rationale' (string) and 'level' (enum of five); or "
        f"an object of aspects, each with 'rationale' and 'better' (enum of {', '.join(BETTER)}).",
        "invalid_json_schema",
        "response_format",
    )


def _resolved(node: Any, root: dict[str, Any]) -> dict[str, Any]:
    """A schema node with its reference into `$defs` followed."""
    for _ in range(8):
        reference = node.get("$ref") if isinstance(node, dict) else None
        if reference is None:
            break
        node = root.get("$defs", {}).get(str(reference).removeprefix(_REFERENCE))
    if not isinstance(node, dict):
        raise _bad_schema("a part of it is no object or refers to nothing")
    return node


def _properties(node: Any, root: dict[str, Any], where: str) -> dict[str, Any]:
    properties = _resolved(node, root).get("properties")
    if not isinstance(properties, dict) or not properties:
        raise _bad_schema(f"{where} has no properties")
    return properties


def _level_field(aspect: str, node: Any, root: dict[str, Any], where: str) -> LevelField:
    if aspect not in ASPECTS:
        raise _bad_schema(f"{where} is no aspect")
    properties = _properties(node, root, where)
    if "level" not in properties or not set(properties) <= {"rationale", "level"}:
        raise _bad_schema(f"{where} must have 'level' and may have 'rationale'")
    choices = _resolved(properties["level"], root).get("enum")
    if not isinstance(choices, list) or len(choices) != len(LEVELS):
        raise _bad_schema(f"{where}.level is not an enum of five")
    if all(isinstance(choice, int) for choice in choices):
        choices = sorted(choices)
    return LevelField(aspect, tuple(properties), tuple(choices))


def _choice_field(aspect: str, node: Any, root: dict[str, Any]) -> ChoiceField:
    properties = _properties(node, root, aspect)
    if "better" not in properties or not set(properties) <= {"rationale", "better"}:
        raise _bad_schema(f"{aspect} must have 'better' and may have 'rationale'")
    choices = _resolved(properties["better"], root).get("enum")
    if not isinstance(choices, list) or sorted(map(str, choices)) != sorted(BETTER):
        raise _bad_schema(f"{aspect}.better is not an enum of {', '.join(BETTER)}")
    return ChoiceField(aspect, tuple(properties))


def read_schema(response_format: Any) -> AskedFor:
    """What is asked for; raises `RequestError` for a schema that cannot be answered."""
    if not isinstance(response_format, dict) or response_format.get("type") != "json_schema":
        raise _bad_schema("the judge needs a response_format of type json_schema")
    wrapper = response_format.get("json_schema")
    root = wrapper.get("schema") if isinstance(wrapper, dict) else None
    if not isinstance(root, dict):
        raise _bad_schema("json_schema.schema is missing")
    images = _properties(root, root, "the answer")
    if set(images) <= set(ASPECTS):
        return AskedFor(choices=tuple(_choice_field(aspect, node, root) for aspect, node in images.items()))
    if list(images) != [f"image_{number + 1}" for number in range(len(images))]:
        raise _bad_schema(f"the keys {list(images)} are not image_1 .. image_n")
    return AskedFor(
        slots=tuple(
            (
                key,
                tuple(
                    _level_field(aspect, inner, root, f"{key}.{aspect}")
                    for aspect, inner in _properties(node, root, key).items()
                ),
            )
            for key, node in images.items()
        )
    )
