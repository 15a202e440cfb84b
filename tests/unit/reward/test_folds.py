import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from vp_ray.maths.one_rater import one_against_the_others, votes_of_rankings
from vp_ray.maths.pictures import sharpness
from vp_ray.reward.folds import accuracies, deal


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


def ranks(*people: tuple[int, ...], prompt: str = "p") -> list[dict[str, object]]:
    return [
        {"prompt_id": prompt, "rater": str(person), "image_id": f"{prompt}{image}", "rank": rank}
        for person, given in enumerate(people)
        for image, rank in enumerate(given)
    ]


def test_folds_are_a_partition_whose_sizes_differ_by_one_whatever_the_order() -> None:
    names = [f"prompt {n}" for n in range(22)]
    dealt = deal(names, 5, seed=1)
    assert sorted(np.bincount(list(dealt.values()))) == [4, 4, 4, 5, 5]
    assert deal(names[::-1], 5, seed=1) == dealt
    assert deal(names, 5, seed=2) != dealt


def test_sharpness_is_the_variance_of_the_laplacian() -> None:
    flat = np.full((6, 6, 3), 100)
    assert sharpness(flat) == 0
    dot = flat.copy()
    dot[2, 2] = 110
    # Of 16 inner pixels one has -40 and four have 10: mean 0, mean square (1600 + 4 x 100) / 16.
    assert sharpness(dot) == pytest.approx(125)


def test_one_person_is_compared_with_the_majority_of_the_others_and_not_with_themselves() -> None:
    # Two images; three people say the first, one the second. The dissenter faces three against: wrong. Each of the
    # three faces two against one: right.
    result = one_against_the_others(votes_of_rankings(ranks((1, 2), (1, 2), (1, 2), (2, 1))))
    assert result.accuracy is not None
    assert (result.accuracy.mean, result.pairs) == (0.75, 4)


def test_an_even_split_of_the_others_decides_nothing_and_an_own_tie_counts_half() -> None:
    # The third person ties. For the first and second the others are divided 1 : 0; for the third they are even.
    result = one_against_the_others(votes_of_rankings(ranks((1, 2), (2, 1), (1, 1))))
    assert result.accuracy is not None
    assert (result.pairs, result.label_ties, result.accuracy.mean) == (2, 1, 0.0)
    tied = one_against_the_others(votes_of_rankings(ranks((1, 2), (1, 2), (1, 1))))
    assert tied.accuracy is not None
    assert tied.accuracy.mean == pytest.approx((1 + 1 + 0.5) / 3)


def test_the_model_and_the_floors_are_measured_on_the_same_pairs() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (8, 8, 3))
    images, scores, preferences = [], [], []
    for prompt in ("p", "q", "r"):
        for image, pixels in enumerate((np.full((8, 8, 3), 90), noise)):
            images.append({"image_id": f"{prompt}{image}", "image": {"bytes": png(pixels), "path": None}})
            scores.append({"prompt_id": prompt, "image_id": f"{prompt}{image}", "score": float(-image)})
        pair = {"prompt_id": prompt, "aspect": "overall", "image_id_a": f"{prompt}0", "image_id_b": f"{prompt}1"}
        preferences += [pair | {"probability_a": 0.9}, pair | {"probability_a": 0.1, "aspect": "fidelity"}]
    scores = [row for row in scores if row["prompt_id"] != "r"]
    found = {
        row["scorer"]: (row["accuracy"], row["pairs"])
        for row in accuracies(
            pa.Table.from_pylist(scores), pa.Table.from_pylist(preferences), pa.Table.from_pylist(images), None
        )
    }
    # The flat picture is preferred: the model says so, sharpness and file size say the opposite; r was not scored.
    assert found == {"vp_score": (1.0, 2), "sharpness": (0.0, 2), "file_bytes": (0.0, 2)}
