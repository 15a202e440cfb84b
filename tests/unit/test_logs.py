"""One JSON line an event, with run and stage, in the run directory and at will on stderr."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from vp_ray.config import LogSettings
from vp_ray.logs import Origin, in_stage, origin, take_over, working_for
from vp_ray.storage import Folder

LOG = logging.getLogger("vp_ray.somewhere")
KEY = "sk-proj-Ab12Cd34Ef56Gh78Ij90"


def lines(run: Path | str) -> list[dict[str, Any]]:
    folder = Folder.at(run) / "logs"
    return [json.loads(line) for name in folder.names() for line in folder.read_bytes(name).splitlines()]


def test_a_line_says_when_how_grave_for_what_run_and_stage_and_by_whom(tmp_path: Path) -> None:
    with working_for(Origin.of(str(tmp_path / "my-run"), LogSettings())):
        LOG.debug("too little")
        LOG.info("before any stage")
        with in_stage("generate"):
            LOG.warning("%d images of %s", 3, "sd15", extra={"fields": {"images": 3}})
        assert origin().labels == {"run": "my-run", "stage": ""}
    LOG.warning("after the run")
    first, second = lines(tmp_path / "my-run")
    assert (first["level"], first["stage"], first["message"]) == ("info", "", "before any stage")
    assert (second["run"], second["stage"], second["level"]) == ("my-run", "generate", "warning")
    assert (second["message"], second["images"], second["logger"]) == ("3 images of sd15", 3, "vp_ray.somewhere")
    assert second["time"] >= first["time"]
    assert second["time"].endswith("+00:00")
    assert origin() == Origin()


def test_lines_go_to_stderr_by_choice_and_to_no_file_by_choice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with working_for(Origin.of(str(tmp_path), LogSettings(files=False, stderr=True, level="debug"))):
        LOG.debug("all of it")
    assert json.loads(capsys.readouterr().err)["message"] == "all of it"
    assert not (tmp_path / "logs").exists()
    with working_for(Origin.of(str(tmp_path), LogSettings())):
        LOG.info("for the file alone")
        LOG.warning("for people too: %s", KEY)
    assert capsys.readouterr().err == "for people too: [redacted]\n"


def test_no_key_gets_into_a_line_by_message_field_or_traceback(tmp_path: Path) -> None:
    with working_for(Origin.of(str(tmp_path), LogSettings())):
        try:
            int(KEY)
        except ValueError:
            LOG.exception("it failed with %s", KEY, extra={"fields": {"asked": {"Authorization": f"Bearer {KEY}"}}})
    (text,) = [path.read_text() for path in (tmp_path / "logs").iterdir()]
    assert KEY not in text
    assert "ValueError" in json.loads(text)["error"]


def test_a_process_that_takes_over_writes_a_file_of_its_own_name(tmp_path: Path) -> None:
    before = origin()
    try:
        take_over(Origin("r", "annotate", str(tmp_path), "info", files=True), "annotate")
        LOG.info("from an actor")
    finally:
        take_over(before, "driver")
    (path,) = (tmp_path / "logs").iterdir()
    assert path.name.startswith("annotate-")
    assert json.loads(path.read_text())["stage"] == "annotate"


def test_a_log_that_cannot_be_written_ends_nothing_and_is_told_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "logs").write_text("a file is in the way")
    with working_for(Origin.of(str(tmp_path), LogSettings())):
        LOG.info("one")
        LOG.info("two")
    assert capsys.readouterr().err.count("the log cannot be written") == 1


def test_on_an_object_store_lines_come_in_parts_and_none_is_lost(bucket: str) -> None:
    with working_for(Origin.of(f"{bucket}/logged", LogSettings())):
        for number in range(3):
            LOG.info("line %d", number)
        LOG.error("now")
        LOG.info("last")
    assert [line["message"] for line in lines(f"{bucket}/logged")] == ["line 0", "line 1", "line 2", "now", "last"]
    assert len((Folder(f"{bucket}/logged") / "logs").names()) == 2
