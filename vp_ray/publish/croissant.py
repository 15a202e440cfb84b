"""Croissant metadata (mlcommons.org/croissant/1.0) of the files, with what its extension for responsible use asks."""

from __future__ import annotations

from typing import Any, Final

import pyarrow as pa

from vp_ray import __version__
from vp_ray.publish.card import DESCRIPTIONS
from vp_ray.publish.config import ExportSettings
from vp_ray.publish.facts import Facts
from vp_ray.publish.layout import Layout, holds_images
from vp_ray.records import IMAGE

CONTEXT: Final = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


def croissant(settings: ExportSettings, title: str, facts: Facts, layout: Layout, published: str) -> dict[str, Any]:
    """JSON-LD: every file with its hash, and one record set a config; `published` is a date, YYYY-MM-DD."""
    judges = ", ".join(str(row["model"]) for row in facts.annotators)
    metadata: dict[str, Any] = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"],
        "name": title,
        "description": f"{facts.choices:,} choices over {facts.pairs:,} pairs of generated images, by aspect.",
        "version": "1.0.0",
        "datePublished": published,
        "inLanguage": list(settings.languages),
        "license": settings.licence or "not stated",
        "keywords": ["preferences", "text-to-image", "reward model"],
        "isLiveDataset": False,
        "rai:dataCollection": f"Drawn and judged by models with vp-ray {__version__}."
        if judges
        else "Imported from an existing data set of human choices.",
        "rai:dataAnnotationPlatform": judges or "see the source of the import",
        "rai:annotationsPerItem": str(facts.orders or "see the source of the import"),
        "rai:dataBiases": "Position, generator and guidance; measured in README.md.",
        "rai:personalSensitiveInformation": "Prompts are as their source has them after cleaning; rater names are "
        "replaced by numbers.",
        "distribution": [*_files(layout), *_sets(layout)],
        "recordSet": [_record_set(config, schema) for config, schema in layout.schemas.items()],
    }
    if settings.creators:
        metadata["creator"] = [{"@type": "sc:Organization", "name": name} for name in settings.creators]
    if settings.citation:
        metadata["citeAs"] = settings.citation
    return metadata


def _files(layout: Layout) -> list[dict[str, Any]]:
    return [
        {
            "@type": "cr:FileObject",
            "@id": file.path,
            "name": file.path,
            "contentUrl": file.path,
            "contentSize": f"{file.size} B",
            "encodingFormat": "application/x-parquet",
            "sha256": file.sha256,
        }
        for file in layout.files
    ]


def _sets(layout: Layout) -> list[dict[str, Any]]:
    return [
        {
            "@type": "cr:FileSet",
            "@id": f"{config}-files",
            "name": f"{config}-files",
            "encodingFormat": "application/x-parquet",
            "includes": f"{config}/*.parquet",
        }
        for config in layout.schemas
    ]


def _record_set(config: str, schema: pa.Schema) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": config,
        "name": config,
        "description": f"{DESCRIPTIONS[config][0].upper()}{DESCRIPTIONS[config][1:]}.",
        "field": [_field(config, column) for column in schema],
    }


def _field(config: str, column: pa.Field) -> dict[str, Any]:
    kind = column.type.value_type if pa.types.is_list(column.type) else column.type
    repeated = {"repeated": True} if pa.types.is_list(column.type) else {}
    described: dict[str, Any] = {"@type": "cr:Field", "@id": f"{config}/{column.name}", "name": column.name, **repeated}
    source = {"fileSet": {"@id": f"{config}-files"}, "extract": {"column": column.name}}
    if column.type.equals(IMAGE):
        source["transform"] = {"jsonPath": "bytes"}
    if holds_images(column):
        return {**described, "dataType": "sc:ImageObject", "source": source}
    if not pa.types.is_struct(kind):
        return {**described, "dataType": _type(kind), "source": source}
    parts = [
        {
            "@type": "cr:Field",
            "@id": f"{config}/{column.name}/{part.name}",
            "name": part.name,
            "dataType": _type(part.type),
            "source": {**source, "transform": {"jsonPath": part.name}},
        }
        for part in kind
    ]
    return {**described, "subField": parts}


def _type(kind: pa.DataType) -> str:
    if pa.types.is_boolean(kind):
        return "sc:Boolean"
    if pa.types.is_integer(kind):
        return "sc:Integer"
    if pa.types.is_floating(kind):
        return "sc:Float"
    return "sc:Text"
