import pickle

import pytest

from vp_ray import errors


@pytest.mark.parametrize(
    "kind", [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.VpRayError)]
)
def test_every_error_comes_back_whole_from_another_process(kind: type[errors.VpRayError]) -> None:
    error = kind("the key is wrong", "Set another.", "job.yaml")
    back = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(back) is kind
    assert str(back) == str(error) == "job.yaml: the key is wrong. Set another."


def test_an_error_without_place_or_remedy_is_still_a_sentence() -> None:
    assert str(errors.InputError("nothing is left.")) == "nothing is left."
