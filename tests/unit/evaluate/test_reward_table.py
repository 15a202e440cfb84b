"""The table of reward models: counts and accuracies by hand, floors beside them, real people as the reference."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from vp_ray.cli import main
from vp_ray.errors import InputError, SettingsError
from vp_ray.evaluate.reward_table import as_text, table_rows
from vp_ray.evaluate.table_job import make_table
from vp_ray.evaluate.test_sets import generators_wins, read_test_set
from vp_ray.imports.config import ImportSettings
from vp_ray.imports.job import run as import_run
from vp_ray.models.picture_scorer import PictureScorer
from vp_ray.models.reward import VPScore
from vp_ray.models.reward_config import Normalisation
from vp_ray.preferences.config import PreferenceSettings
from vp_ray.preferences.job import run as preferences_run
from vp_ray.storage import Manifest, RunFolder

GALLERY = Path(__file__).parents[4] / "shared" / "data" / "human" / "hpdv2_gallery" / "rankings.jsonl"


def imported(folder: Path, settings: dict[str, Any]) -> RunFolder:
    """A run whose import and preferences are finished."""
    run = RunFolder.at(folder)
    for stage, work in (
        ("import", lambda: import_run(ImportSettings.load(settings), run)),
        ("preferences", lambda: preferences_run(PreferenceSettings(), run)),
    ):
        place = run.stage(stage)
        place.start({}, {})
        outcome = work()
        place.finish(Manifest(stage, {}, {}, outcome.rows, 1.0))
    return run


@pytest.fixture(scope="module")
def votes(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Three prompts of two or three pictures by two generators; the bright one is preferred by all but one person."""
    folder = tmp_path_factory.mktemp("votes")
    (folder / "images").mkdir()
    for name, level in {"dark": 40, "mid": 120, "bright": 200}.items():
        for prompt in "pqr":
            noise = np.random.default_rng(ord(prompt)).integers(-9, 9, (40, 60, 3))
            Image.fromarray((level + noise).astype(np.uint8)).save(folder / "images" / f"{prompt}-{name}.png")
    lines = ["prompt,left,right,by_left,by_right,who,vote"]
    for prompt, first, second, chosen in (
        ("p", "dark", "bright", "bbb"),
        ("p", "mid", "bright", "bbb"),
        ("p", "dark", "mid", "bbb"),
        ("q", "bright", "dark", "aab"),
        ("r", "bright", "mid", "ss"),
    ):
        makers = [{"dark": "one", "mid": "one", "bright": "two"}[name] for name in (first, second)]
        for person, vote in enumerate(chosen):
            answer = {"a": "a", "b": "b", "s": "tie"}[vote]
            lines.append(f"{prompt},{prompt}-{first}.png,{prompt}-{second}.png,{','.join(makers)},{person},{answer}")
    (folder / "votes.csv").write_text("\n".join(lines) + "\n")
    columns = {"layout": "pairs", "image_a": "left", "image_b": "right", "generator_a": "by_left"}
    columns |= {"generator_b": "by_right", "rater": "who", "answer": "vote"}
    settings = {"kind": "table", "path": str(folder / "votes.csv"), "columns": columns, "split": "held_out"}
    return imported(folder / "run", settings).uri


@pytest.fixture(scope="module")
def model(tiny_blip: Path) -> VPScore:
    model = VPScore.from_backbone(str(tiny_blip)).eval()
    model.normalise(Normalisation((0.1,) * 4, (2.0,) * 4, 0.3, 1.7, "nothing"))
    return model


class Brightness(PictureScorer):
    """A scorer whose right answers are known."""

    def __init__(self, sign: float = 1.0) -> None:
        super(PictureScorer, self).__init__()
        self._aspects, self.sign = ("overall",), sign

    def score_pictures(self, pictures: Any, prompts: Any) -> Any:
        return np.array([[self.sign * np.asarray(picture).mean()] for picture in pictures], np.float32)


def test_micro_pools_pairs_macro_averages_prompts_and_label_ties_are_left_out(votes: str) -> None:
    test = read_test_set("votes", votes, "overall")
    rows = {row["scorer"]: row for row in table_rows({"bright": Brightness(), "dark": Brightness(-1)}, [test], print)}
    bright = rows["bright"]
    assert (bright["pairs"], bright["label_ties"], bright["micro"], bright["macro"]) == (4, 1, 1.0, 1.0)
    assert (rows["dark"]["micro"], rows["dark"]["within"], rows["dark"]["across"]) == (0.0, 0.0, 0.0)
    # "one" never beats "two" elsewhere; dark and mid, of one generator, have equal scores: three right and a half.
    assert (rows["generator"]["micro"], rows["generator"]["within"], rows["generator"]["across"]) == (3.5 / 4, 0.5, 1.0)
    assert rows["generator"]["macro"] == pytest.approx((2.5 / 3 + 1) / 2)
    assert rows["generator"]["score_ties"] == 1
    # On q one of three dissents: the two face a tie of the others, the one faces two against it; elsewhere all agree.
    assert rows["one person"]["micro"] == pytest.approx(9 / 10)
    assert rows["one person"]["kind"] == "people"


def test_a_floor_by_generator_learns_from_the_other_prompts_alone(votes: str) -> None:
    wins = generators_wins(read_test_set("votes", votes, "overall"))
    assert wins is not None
    # "two" wins both of p's pairs of two generators and q's, and ties on r. On p count q and r: 1.5 of 2; on q p and r:
    # 2.5 of 3; on r p and q: 3 of 3.
    assert sorted(set(wins.values())) == pytest.approx([0, 1 / 6, 1 / 4, 3 / 4, 5 / 6, 1])


def test_the_command_writes_text_json_and_csv_and_scores_as_the_checkpoint_does(
    votes: str, model: VPScore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model.save_pretrained(tmp_path / "checkpoint")
    out = tmp_path / "table"
    command = ["evaluate", "--table", "rewards", "--scorer", f"ours={tmp_path / 'checkpoint'}", "--out", str(out)]
    with pytest.raises(SystemExit) as ended:
        main([*command, "--test", f"votes={votes}", "--test", f"again={votes}"])
    assert ended.value.code == 0
    text = (out / "rewards.txt").read_text()
    assert capsys.readouterr().out.strip() == text.strip()
    assert text.splitlines()[2].split() == ["votes", "again"]
    assert "equal counts one half" in text
    found = json.loads((out / "rewards.json").read_text())
    with (out / "rewards.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(found["rows"]) == 2 * 5
    ours = found["rows"][0]
    test = read_test_set("votes", votes, "overall")
    right = []
    for row in test.pairs:
        if row["probability_a"] != 0.5:
            data = {image_id: (prompt, data) for batch in test.pictures() for image_id, prompt, data in batch}
            scores = []
            for side in ("image_id_a", "image_id_b"):
                prompt, encoded = data[row[side]]
                picture = Image.open(pa.BufferReader(encoded))
                scores.append(float(model.overall(model.score_pictures([picture], [prompt]))[0]))
            right.append((scores[0] > scores[1]) == (row["probability_a"] > 0.5))
    assert ours["micro"] == np.mean(right)
    assert float(lines[0]["micro"]) == ours["micro"]
    assert 0 <= ours["calibration_error"] <= 0.6
    assert sum(each["pairs"] for each in ours["reliability"]) == len(test.pairs)


def test_what_is_missing_is_said(votes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SettingsError, match="no test set"):
        make_table([], [], "overall", tmp_path)
    with pytest.raises(SettingsError, match="named twice"):
        make_table([], [f"a={votes}", f"a={votes}"], "overall", tmp_path)
    with pytest.raises(InputError, match="0 pairs are labelled for 'fidelity'"):
        read_test_set("votes", votes, "fidelity")
    for arguments in (["--test", "x"], [], ["--table", "others"], ["jobs/demo.yaml", "--table", "rewards"]):
        with pytest.raises(SystemExit) as ended:
            main(["evaluate", *arguments])
        assert ended.value.code == 2
    assert "--table rewards" in capsys.readouterr().err


@pytest.mark.skipif(not GALLERY.is_file(), reason="needs the HPDv2 gallery beside the repository")
def test_the_hpdv2_gallerys_real_pictures_are_judged_by_a_model_floors_and_people(
    model: VPScore, tmp_path: Path
) -> None:
    run = imported(tmp_path / "run", {"kind": "rankings", "path": str(GALLERY), "split": "held_out"})
    test = read_test_set("gallery", run.uri, "overall")
    rows = {row["scorer"]: row for row in table_rows({"untrained": model}, [test], print)}
    assert len({row["prompt_id"] for row in test.pairs}) == 20
    assert rows["sharpness"]["pairs"] == rows["untrained"]["pairs"] > 600
    person = rows["one person"]
    assert person["micro_low"] > 0.75
    assert person["micro_low"] < person["micro"] < person["micro_high"]
    assert rows["sharpness"]["micro"] > 0.55
    assert abs(rows["untrained"]["micro"] - 0.5) < 0.25
    assert "one person" in as_text(list(rows.values()))
