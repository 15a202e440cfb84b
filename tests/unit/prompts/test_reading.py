import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vp_ray.errors import InputError
from vp_ray.prompts.config import PromptSettings, PromptSource
from vp_ray.prompts.reading import read
from vp_ray.shapeworld.scenes import category_of, parse_prompt, split_of
from vp_ray.storage import Folder


def source(**values: object) -> PromptSource:
    return PromptSettings.load({"sources": [values]}).sources[0]


def test_every_file_format_gives_the_same_prompts(tmp_path: Path) -> None:
    prompts = ["a cat, sitting", 'say "hi"', "naïve café"]
    rows = [{"text": prompt, "kind": "k"} for prompt in prompts]
    (tmp_path / "p.text").write_text("\n".join(prompts) + "\n")
    (tmp_path / "p.json").write_text(json.dumps(rows))
    (tmp_path / "p.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "p.parquet")
    for kind, mark in (("csv", ","), ("tsv", "\t")):
        quoted = [f'"{prompt.replace(chr(34), chr(34) * 2)}"{mark}k' for prompt in prompts]
        (tmp_path / f"p.{kind}").write_text("\n".join([f"text{mark}kind", *quoted]))
    for kind in ("text", "json", "jsonl", "parquet", "csv", "tsv"):
        found = list(read(source(kind=kind, path=str(tmp_path / f"p.{kind}"), column="text")))
        assert [raw.text for raw in found] == prompts, kind
    with_category = list(read(source(kind="csv", path=str(tmp_path / "p.csv"), column="text", category_column="kind")))
    assert {raw.category for raw in with_category} == {"k"}


def test_prompts_are_read_from_s3(bucket: str) -> None:
    Folder.at(bucket).write_bytes("prompts.jsonl", b'{"prompt": "a"}\n{"prompt": "b"}\n{oops')
    found = source(kind="jsonl", path=f"{bucket}/prompts.jsonl", limit=2)
    assert [(raw.text, raw.source) for raw in read(found)] == [("a", "prompts.jsonl"), ("b", "prompts.jsonl")]
    with pytest.raises(InputError, match=r"s3://vp-ray/prompts\.jsonl:3: this is not valid JSON"):
        list(read(source(kind="jsonl", path=f"{bucket}/prompts.jsonl")))
    with pytest.raises(InputError, match=r"s3://vp-ray/none\.txt: there is no such file"):
        list(read(source(kind="text", path=f"{bucket}/none.txt")))


def test_a_limit_takes_the_first_prompts(tmp_path: Path) -> None:
    (tmp_path / "p").write_text("a\nb\nc\n")
    assert [raw.text for raw in read(source(kind="text", path=str(tmp_path / "p"), limit=2))] == ["a", "b"]


@pytest.mark.parametrize(
    ("kind", "content", "said"),
    [
        ("jsonl", '{"prompt": "a"}\n{oops', r"p:2: this is not valid JSON"),
        ("jsonl", '{"prompt": "a"}\n{"text": "b"}', r"row 2: there is no 'prompt' \(found: text\)"),
        ("json", '{"prompt": "a"}', "must hold a list"),
        ("json", '[{"prompt": 3}]', "is not text but 3"),
        ("csv", "text\na", r"there is no 'prompt' \(found: text\)"),
        ("parquet", "no parquet", "cannot be read as parquet"),
    ],
)
def test_bad_rows_and_files_are_named(tmp_path: Path, kind: str, content: str, said: str) -> None:
    (tmp_path / "p").write_text(content)
    with pytest.raises(InputError, match=said):
        list(read(source(kind=kind, path=str(tmp_path / "p"))))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.txt: there is no such file"):
        list(read(source(kind="text", path=str(tmp_path / "none.txt"))))


def test_shapeworld_prompts_keep_their_split_and_cover_every_category() -> None:
    found = list(read(source(kind="shapeworld", counts={"train": 100, "held_out": 50, "compositional": 20})))
    assert len(found) == len({raw.text for raw in found}) == 170
    for raw in found:
        scene = parse_prompt(raw.text)
        assert (raw.split, raw.category) == (split_of(scene), category_of(scene))
    assert {raw.category for raw in found if raw.split == "train"} == {"single", "size", "count", "pair", "relation"}


def test_more_shapeworld_prompts_than_there_are_is_refused() -> None:
    with pytest.raises(InputError, match="832 prompts, not 900"):
        list(read(source(kind="shapeworld", counts={"held_out": 900})))
