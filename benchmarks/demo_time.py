"""Wall seconds and peak memory of `make demo` after set-up, in a fresh run directory."""

import tempfile
from pathlib import Path

from runs import print_figure, run_job

with tempfile.TemporaryDirectory(prefix="vp-demo-") as folder:
    measured = run_job("jobs/demo.yaml", Path(folder) / "run")
print_figure("demo_seconds", measured.seconds, "s", "at most 360")
print_figure("demo_peak_gb", measured.peak_gb, "GiB", "at most 8")
