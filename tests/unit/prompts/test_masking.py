from collections import Counter

import pytest

from vp_ray.prompts.masking import mask, masked_prompts
from vp_ray.prompts.reading import RawPrompt

ALL = ("mail", "phone", "handle")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("write to jo.doe+art@mail.example.org, please", "write to [mail], please"),
        ("call +49 30 1234567 or (030) 123 45 67", "call [phone] or [phone]"),
        ("555-123-4567 on a billboard", "[phone] on a billboard"),
        ("tel 0171 2345678", "tel [phone]"),
        ("by @some_artist. and @Other", "by [handle]. and [handle]"),
    ],
)
def test_mail_addresses_telephone_numbers_and_handles_are_masked(text: str, expected: str) -> None:
    assert mask(text, ALL)[0] == expected


@pytest.mark.parametrize(
    "text",
    [
        "a 1920x1080 render, 8k, 16:9, f/1.8, (cat:1.25)",
        "the year 1984 2001, 24 72 90 frames",
        "seed 1234567890, cfg 7.5, 0.123456789",
        "on 2020-01-01 in 1 000 000 colours",
        "an email at 5 o'clock @ the beach",
        "postcode 10115 12345 78910",
    ],
)
def test_sizes_years_seeds_and_dates_are_no_personal_data(text: str) -> None:
    assert mask(text, ALL) == (text, Counter())


def test_only_the_kinds_that_are_set_are_masked_and_each_is_counted() -> None:
    text = "a@b.example and c@d.example by @me"
    assert mask(text, ("handle",)) == ("a@b.example and c@d.example by [handle]", Counter(handle=1))
    counts: Counter[str] = Counter()
    first, second = masked_prompts([RawPrompt(text, "f"), RawPrompt("a cat", "f")], ALL, counts)
    assert (first.flags, second.flags) == (("masked",), ())
    assert counts == {"mail": 2, "handle": 1}
