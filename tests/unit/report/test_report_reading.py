"""Reading a run: finished, unfinished, missing and broken stages, and pictures without reading all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow.dataset as ds
import pytest

from vp_ray.report import reading
from vp_ray.report.reading import RunReader
from vp_ray.report.sections.loop import loop, reached
from vp_ray.storage import RunFolder


def test_a_stage_is_missing_then_unfinished_then_finished(made_run: Callable[..., Any]) -> None:
    made = made_run(2)
    assert RunReader(made.run).state("prompts") == "missing"
    made.run.stage("prompts").start({}, {})
    assert RunReader(made.run).state("prompts") == "unfinished"
    made = made_run(2, "other")
    made.prompts()
    assert RunReader(made.run).state("prompts") == "finished"
    assert reached(RunReader(made.run)) == "prompts"


def test_a_broken_manifest_and_a_broken_table_are_said_and_read_as_missing(made_run: Callable[..., Any]) -> None:
    made = made_run(2)
    made.prompts()
    made.run.stage("prompts").write_bytes("manifest.json", b"{")
    made.run.stage("evaluate").make().write_bytes("comparison.parquet", b"no table")
    reader = RunReader(made.run)
    assert reader.state("prompts") == "unfinished"
    assert reader.rows("evaluate", "comparison.parquet", ["scorer"]) == []
    assert len(reader.problems) == 2
    assert all(made.run.uri in problem for problem in reader.problems)


def test_a_table_that_lacks_a_column_is_said_and_reads_as_missing(finished_run: RunFolder) -> None:
    reader = RunReader(finished_run)
    assert reader.table("evaluate", "comparison.parquet", ["scorer", "zeal"]) is None
    assert any("zeal" in problem for problem in reader.problems)


def test_a_curve_ends_before_a_line_that_was_cut_off(made_run: Callable[..., Any]) -> None:
    made = made_run(2)
    made.run.stage("rl").make().write_bytes("metrics.jsonl", b'{"epoch": 1}\n{"epoch": 2}\n{"epo')
    assert RunReader(made.run).curve("rl") == [{"epoch": 1}, {"epoch": 2}]


def test_rows_are_filtered_where_they_are_read(finished_run: RunFolder) -> None:
    reader = RunReader(finished_run)
    rows = reader.rows("evaluate", "scores.parquet", ["aspect"], ds.field("aspect") == "fidelity")
    assert rows
    assert {row["aspect"] for row in rows} == {"fidelity"}


def test_only_row_groups_with_a_wanted_picture_are_decoded(
    finished_run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = RunReader(finished_run)
    ids = [row["image_id"] for row in reader.rows("generate", "images", ["image_id"])]
    opened: list[Any] = []
    original = reading.pq.ParquetFile.read_row_group

    def counted(self: Any, group: int, columns: list[str]) -> Any:
        opened.append(columns)
        return original(self, group, columns)

    monkeypatch.setattr(reading.pq.ParquetFile, "read_row_group", counted)
    found = dict(reader.pictures({ids[0], "unknown"}))
    assert list(found) == [ids[0]]
    assert found[ids[0]].startswith(b"\x89PNG")
    assert opened.count(["image"]) == 1


def test_files_are_summed_by_folder_and_the_reports_own_are_left_out(finished_run: RunFolder) -> None:
    found = {group.place: group for group in RunReader(finished_run).files()}
    assert found["generate/images/"].files == 2
    assert found["prompts/prompts.parquet"].size == (finished_run.local_path / "prompts/prompts.parquet").stat().st_size
    assert not any(place.startswith("report") for place in found)


def test_the_loop_counts_what_failed_last_and_sums_time_and_money(finished_run: RunFolder) -> None:
    found = loop(RunReader(finished_run))
    by_name = {line.name: line for line in found.stages}
    assert [one.kind for one in by_name["annotate"].counts] == ["good", "failed"]
    assert [one.name for one in by_name["prompts"].counts] == ["kept", "duplicate"]
    assert found.seconds == pytest.approx(222.1)
    assert found.cost_usd == pytest.approx(0.0312)
    assert by_name["rl"].time_share == 1.0
    assert "import" not in by_name
