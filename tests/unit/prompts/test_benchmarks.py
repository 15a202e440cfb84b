"""Published test suites come with their categories, whole and never trained on; what does not fit says what would."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vp_ray.errors import InputError
from vp_ray.prompts.cleaning import clean
from vp_ray.prompts.config import PromptSettings
from vp_ray.prompts.reading import read

DATA = Path(__file__).parents[4] / "shared" / "data" / "prompts"


def rows_of(name: str, path: Path, **more: object) -> list[dict[str, str]]:
    values = {"sources": [{"kind": "benchmark", "name": name, "path": str(path), **more}]}
    settings = PromptSettings.load(values)
    return clean((prompt for source in settings.sources for prompt in read(source)), settings)[0]


def categories(rows: list[dict[str, str]]) -> dict[str, int]:
    return dict(Counter(row["category"] for row in rows))


def test_t2i_compbench_takes_the_validation_lists_of_a_folder_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "color_val.txt").write_text("a green bench and a blue bowl\na blue cake\n\n")
    (tmp_path / "color_train.txt").write_text("a red car\n")
    (tmp_path / "color_val_seen.txt").write_text("a blue cake\n")
    (tmp_path / "3d_spatial_val.txt").write_text("a dog in front of a desk\n")
    rows = rows_of("t2i_compbench", tmp_path)
    assert categories(rows) == {"color": 2, "3d_spatial": 1}
    assert {row["split"] for row in rows} == {"held_out"}
    assert {row["source"] for row in rows} == {"t2i_compbench"}
    assert categories(rows_of("t2i_compbench", tmp_path, per_category=1)) == {"color": 1, "3d_spatial": 1}


def test_drawbench_is_read_from_a_spreadsheet_and_from_parquet(tmp_path: Path) -> None:
    (tmp_path / "bench.csv").write_text(
        '\ufeffPrompts,Category\nA red colored car.,Colors\n"One cat, two dogs.",Counting\n'
    )
    pq.write_table(pa.table({"prompts": ["A red colored car."], "category": ["Colors"]}), tmp_path / "bench.parquet")
    assert categories(rows_of("drawbench", tmp_path / "bench.csv")) == {"Colors": 1, "Counting": 1}
    assert rows_of("drawbench", tmp_path / "bench.csv")[1]["prompt"] == "One cat, two dogs."
    assert categories(rows_of("drawbench", tmp_path / "bench.parquet", split="compositional")) == {"Colors": 1}


def test_parti_prompts_and_geneval_keep_their_categories(tmp_path: Path) -> None:
    (tmp_path / "PartiPrompts.tsv").write_text("Prompt\tCategory\tChallenge\tNote\nbond\tAbstract\tBasic\tshort\n")
    (tmp_path / "meta.jsonl").write_text('{"tag": "counting", "include": [], "prompt": "a photo of two clocks"}\n')
    assert categories(rows_of("parti_prompts", tmp_path / "PartiPrompts.tsv")) == {"Abstract": 1}
    assert categories(rows_of("geneval", tmp_path / "meta.jsonl")) == {"counting": 1}


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("drawbench", "text,kind\na cat,x\n", "a row has no 'prompts'.*columns Prompts and Category"),
        ("geneval", '{"prompt": "a cat"}\n', "line 1 has no 'prompt' and 'tag'"),
        ("geneval", "[\n", "cannot be read"),
        ("parti_prompts", "Prompt,Category\n", "there are no prompts in it"),
    ],
)
def test_another_file_is_refused_with_what_the_suite_is_published_as(
    tmp_path: Path, name: str, text: str, problem: str
) -> None:
    (tmp_path / "file.csv").write_text(text)
    with pytest.raises(InputError, match=problem):
        rows_of(name, tmp_path / "file.csv")


def test_a_missing_file_and_an_empty_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere.*there is no such file"):
        rows_of("geneval", tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"none of its lists.*color_val\.txt"):
        rows_of("t2i_compbench", tmp_path)


@pytest.mark.skipif(not DATA.is_dir(), reason="the published lists are not here")
def test_the_published_lists_load_whole() -> None:
    assert len(categories(rows_of("t2i_compbench", DATA / "t2i_compbench"))) == 8
    assert len(rows_of("parti_prompts", DATA / "parti_prompts.tsv")) > 1500
    found = categories(rows_of("geneval", DATA / "geneval.jsonl"))
    assert sum(found.values()) > 500
    assert len(found) == 6
