import subprocess
import sys

from vp_ray.ids import content_id, fingerprint, seed_from, uniform_from


def test_ids_depend_on_where_parts_end() -> None:
    assert content_id("ab", "c") != content_id("a", "bc")
    assert content_id("a") != content_id("a", "")


def test_ids_and_seeds_are_the_same_in_every_process() -> None:
    code = "from vp_ray.ids import *; print(content_id('a', 1), seed_from('a', 1), uniform_from('a', 1))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert other == [content_id("a", 1), str(seed_from("a", 1)), str(uniform_from("a", 1))]


def test_seeds_fit_a_torch_generator() -> None:
    assert all(0 <= seed_from("seed", n) < 2**63 for n in range(1000))


def test_uniform_numbers_have_the_mean_and_variance_of_the_unit_interval() -> None:
    values = [uniform_from("u", n) for n in range(20_000)]
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / len(values)
    # Standard errors are 0.002 and 0.0005.
    assert abs(mean - 0.5) < 0.008
    assert abs(variance - 1 / 12) < 0.002


def test_a_fingerprint_ignores_the_order_of_keys_and_sees_every_value() -> None:
    assert fingerprint({"a": 1, "b": [1, 2]}) == fingerprint({"b": [1, 2], "a": 1})
    assert fingerprint({"a": 1, "b": [1, 2]}) != fingerprint({"a": 1, "b": [2, 1]})
