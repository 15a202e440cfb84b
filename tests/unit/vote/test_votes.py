"""Ballots, the box that keeps them, and what votes say."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import pytest

from vp_ray.cli import main
from vp_ray.errors import InputError, StorageError
from vp_ray.storage import RunFolder
from vp_ray.vote.ballots import Pair, ballots_of, read_pairs
from vp_ray.vote.box import BallotBox, Choice, read_votes
from vp_ray.vote.job import results
from vp_ray.vote.results import calibrate, result_of

Evaluated = Callable[..., RunFolder]


def vote_by(box: BallotBox, rater: str, choose: Callable[[int, bool], Choice], most: int = 1000) -> int:
    """Votes until nothing is left: `choose` is told the number of the ballot and whether the tuned image is left."""
    for number in range(most):
        ballot, _, _ = box.next(rater)
        if ballot is None:
            return number
        box.put(rater, ballot.ballot_id, choose(number, ballot.left.is_tuned))
    return most


def for_tuned(_: int, tuned_is_left: bool) -> Choice:
    return "left" if tuned_is_left else "right"


def test_a_rater_sees_every_pair_before_any_comes_again_the_other_way_round(evaluated: Evaluated) -> None:
    pairs = read_pairs(evaluated(6))
    ballots = ballots_of("ann", pairs)
    first, second = ballots[:6], ballots[6:]
    assert len({frozenset((one.left.image_id, one.right.image_id)) for one in first}) == 6
    assert [(one.right, one.left) for one in first] == [(one.left, one.right) for one in second]
    assert len({one.ballot_id for one in ballots}) == 12
    assert [one.prompt_id for one in ballots_of("bob", pairs)] != [one.prompt_id for one in ballots]


def test_the_tuned_image_stands_on_either_side(evaluated: Evaluated) -> None:
    sides = [pair.first.is_tuned for pair in read_pairs(evaluated(40))]
    assert 10 <= sum(sides) <= 30


def test_votes_outlive_the_box_and_a_ballot_is_answered_once(evaluated: Evaluated) -> None:
    run = evaluated(3)
    box = BallotBox(run, read_pairs(run), "overall")
    ballot, _, total = box.next("ann")
    assert ballot is not None
    assert total == 6
    box.put("ann", ballot.ballot_id, "tie")
    box.put("ann", ballot.ballot_id, "left")
    again = BallotBox(run, read_pairs(run), "overall")
    following, answered, _ = again.next("ann")
    assert answered == 1
    assert following is not None
    assert following.ballot_id != ballot.ballot_id
    (row,) = read_votes(run).to_pylist()
    assert (row["rater"], row["aspect"], row["preferred_a"]) == ("ann", "overall", 0.5)
    again.undo("ann")
    assert again.next("ann")[0] == ballot
    assert read_votes(run).num_rows == 0


@pytest.mark.parametrize("name", ["", "../x", "a b", "a/b", "x" * 41, ".hidden"])
def test_a_name_that_is_no_file_name_is_refused(evaluated: Evaluated, name: str) -> None:
    run = evaluated(1)
    with pytest.raises(InputError, match="no name for a rater"):
        BallotBox(run, read_pairs(run), "overall").next(name)


def test_a_rater_who_always_takes_the_left_prefers_nothing(evaluated: Evaluated) -> None:
    run = evaluated(5)
    box = BallotBox(run, read_pairs(run), "overall")
    vote_by(box, "lefty", lambda number, tuned_is_left: "left")
    found = result_of(read_votes(run), read_pairs(run), "overall")
    assert found is not None
    assert (found.tuned_preferred.mean, found.left_preferred, found.same_when_turned) == (0.5, 1.0, 0.0)


def test_votes_for_the_better_model_agree_with_the_scorer_that_sees_it_and_not_with_the_other(
    evaluated: Evaluated,
) -> None:
    run = evaluated(5)
    box = BallotBox(run, read_pairs(run), "overall")
    for rater in ("ann", "bob"):
        vote_by(box, rater, for_tuned)
    ((result, scorers),) = results(run)
    assert (result.raters, result.votes, result.tuned_preferred.mean) == (2, 20, 1.0)
    assert (result.same_when_turned, result.raters_agree) == (1.0, 1.0)
    accuracy = {one.scorer: one.agreement.accuracy for one in scorers}
    assert accuracy["good"] is not None
    assert accuracy["bad"] is not None
    assert (accuracy["good"].mean, accuracy["bad"].mean) == (1.0, 0.0)


def test_the_slope_of_three_votes_in_four_is_the_logarithm_of_three(evaluated: Evaluated) -> None:
    run = evaluated(4)
    box = BallotBox(run, read_pairs(run), "overall")
    vote_by(box, "ann", lambda number, left: for_tuned(number, left != (number in (0, 4))))
    pairs: list[Pair] = read_pairs(run)
    found = calibrate(read_votes(run), pairs, run.stage("evaluate").read_table("scores.parquet"), "overall")
    slopes = {one.scorer: one.slope for one in found}
    assert slopes["good"] == pytest.approx(math.log(3), abs=1e-6)
    assert slopes["bad"] == pytest.approx(-math.log(3), abs=1e-6)


def test_abstentions_are_counted_and_enter_no_share(evaluated: Evaluated) -> None:
    run = evaluated(2)
    box = BallotBox(run, read_pairs(run), "aesthetic")
    vote_by(box, "ann", lambda number, left: "skip" if number % 2 else for_tuned(number, left))
    found = result_of(read_votes(run), read_pairs(run), "aesthetic")
    assert found is not None
    assert (found.votes, found.abstentions, found.tuned_preferred.mean) == (2, 2, 1.0)


def test_results_without_a_vote_or_an_evaluation_say_what_to_do(
    evaluated: Evaluated, capsys: pytest.CaptureFixture[str]
) -> None:
    run = evaluated(1)
    with pytest.raises(InputError, match="nobody has voted yet"):
        results(run)
    with pytest.raises(StorageError, match="'evaluate' is not finished"):
        results(RunFolder.at(run.uri + "-other"))
    vote_by(BallotBox(run, read_pairs(run), "overall"), "ann", for_tuned)
    with pytest.raises(SystemExit):
        main(["vote", run.uri, "--results", "--json"])
    assert json.loads(capsys.readouterr().out)["aspects"][0]["votes"] == 2
