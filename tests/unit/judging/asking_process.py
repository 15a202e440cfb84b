"""A process that asks questions into a ledger until it is killed: `python asking_process.py URL LEDGER GROUPS`."""

from __future__ import annotations

import sys

from tests.unit.judging.conftest import annotator, make_questions, open_judge
from vp_ray.judging.rubric import Rubric
from vp_ray.storage import Folder

if __name__ == "__main__":
    url, ledger, groups = sys.argv[1:]
    settings, rubric = annotator(concurrency=4), Rubric.load("visionprefer")
    with open_judge(settings, url, rubric, Folder.at(ledger)) as (judge, _):
        judge(make_questions(int(groups), settings, rubric))
