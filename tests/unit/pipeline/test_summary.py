import io
from typing import Any

from rich.console import Console

from vp_ray.pipeline.running import Finished
from vp_ray.pipeline.summary import print_summary
from vp_ray.storage import Manifest


def shown(**figures: dict[str, Any]) -> str:
    results = {
        stage: Finished(Manifest(stage, {}, {}, {"made": 3}, 1.5, figures=values), skipped=False)
        for stage, values in figures.items()
    }
    console = Console(file=io.StringIO(), width=80)
    print_summary(results, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


ROW = {
    "scorer": "oracle",
    "aspect": "overall",
    "base": 3.5,
    "tuned": 3.75,
    "gain": 0.25,
    "wins": 3,
    "ties": 1,
    "losses": 0,
}


def test_a_gain_stands_with_its_interval_and_the_prompts_won_tied_and_lost() -> None:
    text = shown(evaluate={"comparison": [ROW | {"low": 0.125, "high": 0.375}]})
    assert "+0.250 [+0.125, +0.375]" in text
    assert "3/1/0" in text


def test_a_single_prompt_has_no_interval_and_still_a_line() -> None:
    text = shown(
        evaluate={"comparison": [ROW | {"low": None, "high": None}]},
        reward={"accuracy": {"overall": {"accuracy": 0.75, "low": None, "high": None}}},
    )
    assert "+0.250" in text
    assert "pair accuracy 0.750" in text


def test_trainings_on_less_stand_below_the_whole_one() -> None:
    accuracy = {"overall": {"accuracy": 0.81, "low": 0.7, "high": 0.9}, "fidelity": {"accuracy": 0.6, "low": None}}
    rows = [
        {"variant": "all", "training_groups": 90, "accuracy": accuracy},
        {"variant": "half", "training_groups": 44, "accuracy": {"overall": accuracy["overall"] | {"accuracy": 0.75}}},
    ]
    lines = [line.split() for line in shown(reward={"accuracy": {}, "variants": rows}).splitlines()]
    assert ["all", "90", "0.810", "[0.700,", "0.900]", "0.600"] in lines
    assert ["half", "44", "0.750", "[0.700,", "0.900]", "-"] in lines


def test_cross_validated_accuracies_stand_beside_the_floors() -> None:
    rows = [
        {"scorer": "vp_score", "accuracy": 0.6, "low": 0.5, "high": 0.7, "pairs": 90},
        {"scorer": "sharpness", "accuracy": 0.65, "low": 0.55, "high": 0.75, "pairs": 90},
    ]
    text = shown(reward={"accuracy": {}, "cross_validation": rows})
    assert "vp_score" in text
    assert "[0.550, 0.750]" in text


def test_what_was_paid_stands_by_model_and_day_and_nothing_where_nothing_was() -> None:
    row = {"model": "gpt-4o", "day": "2026-11-25", "prices_as_of": "2026-11", "answers": 1200, "cost_usd": 1.23456}
    tokens = {"request_tokens": 1_900_000, "reply_tokens": 540_000}
    text = shown(annotate={"costs": [row | tokens]})
    assert "What annotate cost" in text
    assert "gpt-4o  2026-11-25  2026-11      1,200    1,900,000      540,000  1.2346" in text
    assert "cost" not in shown(annotate={"costs": [row | tokens | {"cost_usd": 0.0}]})


def test_bills_that_part_from_the_estimates_by_more_than_a_fifth_are_named() -> None:
    traffic = {"near": {"billed_over_estimated": 1.19}, "far": {"billed_over_estimated": 0.75}}
    text = " ".join(shown(annotate={"traffic": traffic | {"none": {}}}).split())
    assert "far bills 0.75 times" in text
    assert "near" not in text


def test_the_verdict_variety_and_other_ways_of_drawing_stand_below_the_comparison() -> None:
    row = ROW | {"low": 0.1, "high": 0.3, "prompts": 48, "p_adjusted": 0.012}
    text = shown(
        evaluate={
            "comparison": [ROW | {"low": 0.125, "high": 0.375}],
            "conditions": [{"condition": "guidance_3"} | row],
            "exploitation": {"verdict": "suspected", "reason": "The reward rose, and oracle saw no gain."},
            "variety": {"share": 0.91, "low": 0.85, "high": 0.96},
        }
    )
    line = next(line for line in text.splitlines() if line.startswith("guidance_3"))
    assert line.split() == ["guidance_3", "oracle", "48", "+0.250", "[+0.100,", "+0.300]", "3/1/0", "0.012"]
    assert "Was the reward exploited? suspected: The reward rose" in text
    assert "91 % [85 %, 96 %] of the base's" in text


def test_the_recommended_annotator_is_named_with_the_reason() -> None:
    row = {"annotator": "mini", "accuracy": 0.8, "low": 0.75, "high": 0.85, "usd": 0.5, "request_tokens": 900.0}
    choice = {
        "truth": "oracle",
        "rows": [row | {"bias": 0.1, "flip_rate": None}],
        "recommended": "mini",
        "reason": "So.",
    }
    text = shown(annotate={"choice": choice})
    assert "Annotators by the answers of oracle" in text
    assert "0.800 [0.750, 0.850]" in text
    assert "Recommended: mini. So." in text
