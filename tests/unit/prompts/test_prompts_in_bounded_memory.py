"""The prompts stage reads, cleans and writes prompts one part after the other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

STAGE = """
import resource, sys
from vp_ray.prompts.config import PromptSettings
from vp_ray.prompts.job import run
from vp_ray.storage import RunFolder
source = {"kind": "parquet", "path": sys.argv[1]}
few = {**source, "limit": 20_000}
run(PromptSettings.load({"sources": [few]}), RunFolder.at(sys.argv[2] + "/few"))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
run(PromptSettings.load({"sources": [source]}), RunFolder.at(sys.argv[2] + "/all"))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


def test_a_hundred_thousand_prompts_more_take_their_names_and_no_more(tmp_path: Path) -> None:
    count = 120_000
    words = "a very long prompt that says all that one could wish to see and then says all of it again in other words"
    pq.write_table(
        pa.table({"prompt": [f"{number} {words} {words}" for number in range(count)]}), tmp_path / "in.parquet"
    )
    told = subprocess.run(
        [sys.executable, "-c", STAGE, str(tmp_path / "in.parquet"), str(tmp_path)],
        check=True,
        capture_output=True,
        text=True,
    )
    grown = int(told.stdout.splitlines()[-1])
    assert pq.ParquetFile(tmp_path / "all/prompts/prompts.parquet").metadata.num_rows == count
    # Rows as dicts take some 1,300 bytes each, 130 MB in all; names take 100, a row group of texts 60 MB once.
    assert grown < 90e6, f"{grown / 1e6:.0f} MB for {count - 20_000:,} prompts more"
