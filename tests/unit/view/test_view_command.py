"""`vp-ray view` as a user types it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from vp_ray.cli import main
from vp_ray.storage import RunFolder

ROOT = Path(__file__).parents[3]


def test_it_serves_until_it_is_interrupted(shapes: RunFolder) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "vp_ray", "view", shapes.uri, "--no-open"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        found = re.match(r"(http://127\.0\.0\.1:\d+/)  shows 120 pairs; Ctrl-C ends it", line)
        assert found, line + process.stderr.read()
        with urllib.request.urlopen(f"{found.group(1)}data/index.js", timeout=20) as answer:  # noqa: S310 - loopback
            assert answer.read().startswith(b'vpTake("index",')
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert "Traceback" not in process.stderr.read()


def test_a_static_page_holds_as_many_prompts_as_asked(
    shapes: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, prompts, pictures in ((1, "3", 12), (2, "0", 80)):
        out = tmp_path / str(number)
        with pytest.raises(SystemExit) as stop:
            main(["view", shapes.uri, "--static", str(out), "--prompts", prompts, "--no-open"])
        assert stop.value.code == 0
        assert capsys.readouterr().out.strip().endswith(str(out / "index.html"))
        assert len(list(out.rglob("*.webp"))) == pictures


def test_a_run_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["view", str(tmp_path / "none"), "--no-open"])
    assert stop.value.code == 2
    assert "the stage 'preferences' is not finished" in capsys.readouterr().err
