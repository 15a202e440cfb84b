"""The card and the metadata say what the run says, with and without quality checks."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import yaml

from tests.judged_runs import judged_run
from vp_ray.judging.rubric import Rubric
from vp_ray.publish.card import cell
from vp_ray.publish.config import ExportSettings
from vp_ray.publish.job import Exported, export
from vp_ray.publish.quality import check_tables
from vp_ray.storage import RunFolder


def head_and_text(folder: Path) -> tuple[dict, str]:
    _, head, text = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(head), text


def test_the_head_names_licence_configs_and_splits(exported: Exported) -> None:
    head, _ = head_and_text(exported.folder)
    assert head["license"] == "cc-by-4.0"
    assert "license_name" not in head
    assert head["annotations_creators"] == ["machine-generated"]
    assert head["language"] == ["en"]
    assert [config["config_name"] for config in head["configs"] if config.get("default")] == ["preferences"]
    for config, info in zip(head["configs"], head["dataset_info"], strict=True):
        assert config["config_name"] == info["config_name"]
        files = [file for file in exported.files if file.config == config["config_name"]]
        assert {item["split"] for item in config["data_files"]} == {file.split for file in files}
        assert sum(split["num_examples"] for split in info["splits"]) == sum(file.rows for file in files)
        assert info["download_size"] == sum(file.size for file in files)


def test_the_text_states_the_numbers_of_the_run(exported: Exported, finished_run: RunFolder) -> None:
    _, text = head_and_text(exported.folder)
    table = finished_run.stage("preferences").read_table("preferences.parquet")
    figures = finished_run.stage("annotate").finished().figures
    words = " ".join(text.split())
    pairs = len({(row["image_id_a"], row["image_id_b"]) for row in table.to_pylist()})
    assert f"{table.num_rows:,} choices over {pairs:,} different pairs" in words
    assert f"decided pairs flip in {100 * figures['flip_rate']:.1f} %" in words
    assert f"| fidelity | {100 * figures['flip_rate_by_aspect']['fidelity']:.1f} % |" in words
    assert "142 scored" in words
    assert "18 refused" in words
    rubric = Rubric.load("visionprefer")
    assert f"`{rubric.version}`" in text
    assert rubric.text("listwise", rubric.aspects).strip() in text
    assert "| annotate | $12.50 | 2.00 |" in text
    assert "| strong | strong-one | 80 |" in text, "of a path only the last part"
    assert "| weak | someone/weak-model | 80 |" in text
    assert "3 to 12" in text
    assert "| 7.5 |" in text
    assert "free \\| to &lt;use&gt;" in text


def test_win_rates_are_of_pairs_of_two_generators(exported: Exported, finished_run: RunFolder) -> None:
    images = (finished_run.stage("generate") / "images").read_table(".", ["image_id", "generator"]).to_pylist()
    generator = {row["image_id"]: row["generator"] for row in images}
    won = []
    for row in finished_run.stage("preferences").read_table("preferences.parquet").to_pylist():
        first, second = generator[row["image_id_a"]], generator[row["image_id_b"]]
        if row["aspect"] == "overall" and first != second:
            won.append(row["probability_a"] if first == "strong" else 1 - row["probability_a"])
    rates = {row["name"]: row["win_rate"] for row in exported.facts.generators}
    assert abs(rates["strong"] - sum(won) / len(won)) < 1e-12
    assert abs(rates["strong"] + rates["weak"] - 1) < 1e-12


def test_quality_checks_are_on_the_card_when_the_run_has_them(
    exported: Exported, finished_run: RunFolder, tmp_path: Path
) -> None:
    found = finished_run.stage("preferences").read_json("quality.json")
    text = (exported.folder / "README.md").read_text()
    rows = {row["predictor"]: row for row in found["predictors"]["rows"]}
    assert f"| the sharper image | {100 * rows['sharpness']['accuracy']:.1f} % |" in text
    assert f"| {rows['sharpness']['pairs']} |" in text
    overall = found["generators"]["overall"]
    told = " | ".join(f"{100 * overall[name]['win_rate']:.1f} %" for name in ("strong", "weak"))
    assert f"| overall | {told} |" in text
    alpha = found["agreement"]["annotators"]["alpha_between_annotators"]["fidelity"]
    assert f"| between annotators | fidelity | {alpha:.2f} |" in text
    assert f"{found['splits']['near_duplicates']} prompts are near-duplicates of another one" in text
    assert "Overlap with public test prompts was not looked for." in text
    run = judged_run(tmp_path / "run", 3)
    run.stage("preferences").delete("quality.json")
    assert (
        "holds no quality checks" in (export(ExportSettings(), run, tmp_path / "out").folder / "README.md").read_text()
    )


def test_overlap_and_drift_are_told_and_examples_are_not() -> None:
    lists = {"parti|prompts": {"list": 1632, "equal": 2, "near": 1, "examples": ["a secret prompt"]}}
    drift = {"judge": {"from": 0.0, "to": 9.0, "aspects": {"fidelity": {"change": -0.125, "low": -0.25, "high": 0.0}}}}
    tables = check_tables({"overlap": {"lists": lists, "prompts": 3, "removed": True}, "drift": drift})
    assert [table.sentence.split(";")[0] for table in tables] == [
        "3 prompts are on a list of public test prompts, or nearly so",
        "How answers changed from the first to the last:",
    ]
    assert "were removed" in tables[0].sentence
    assert tables[0].rows == (("parti|prompts", "1,632", "2", "1"),)
    assert tables[1].rows == (("judge", "fidelity", "-0.12", "-0.25 to +0.00"),)
    assert "secret" not in repr(tables)
    assert check_tables({"predictors": {"aspect": None, "rows": []}, "levels": 3}) == []
    assert check_tables(None) == []


def test_without_a_licence_the_card_says_so(tmp_path: Path) -> None:
    folder = export(ExportSettings(), judged_run(tmp_path / "run", 2), tmp_path / "out").folder
    head, text = head_and_text(folder)
    assert (head["license"], head["license_name"]) == ("other", "not-stated")
    assert "none is stated; ask its makers before you use it" in text


def test_cells_cannot_break_out_of_their_table() -> None:
    assert cell("a | b\n<script>`x`[l](u)") == "a \\| b &lt;script&gt;'x'\\[l](u)"
    assert cell(None) == "\N{EN DASH}"
    assert cell([3.0, 12.0]) == "3 to 12"


def test_croissant_names_every_file_with_its_hash_and_every_column(exported: Exported) -> None:
    metadata = json.loads((exported.folder / "croissant.json").read_text())
    assert metadata["conformsTo"][0] == "http://mlcommons.org/croissant/1.0"
    files = {item["@id"]: item for item in metadata["distribution"] if item["@type"] == "cr:FileObject"}
    assert files.keys() == {file.path for file in exported.files}
    for path, item in files.items():
        assert item["sha256"] == hashlib.sha256((exported.folder / path).read_bytes()).hexdigest()
    head, _ = head_and_text(exported.folder)
    features = {info["config_name"]: [item["name"] for item in info["features"]] for info in head["dataset_info"]}
    fields = {item["name"]: [field["name"] for field in item["field"]] for item in metadata["recordSet"]}
    assert fields == features
