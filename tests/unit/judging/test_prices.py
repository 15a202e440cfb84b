"""Prices: by hand, by name, by setting."""

from __future__ import annotations

import pytest

from tests.unit.judging.conftest import annotator
from vp_ray.judging.config import PriceSettings
from vp_ray.judging.prices import FREE, Price, price_of

URL = "https://example.org/v1"


def test_a_cost_worked_by_hand() -> None:
    # 800 fresh and 200 cached tokens in, 100 out: (800 x 2.5 + 200 x 1.25 + 100 x 10) / 1e6.
    assert Price(2.5, 10.0, 1.25).cost_usd(1000, 100, 200) == pytest.approx(0.00325)


def test_one_pass_over_179_000_prompts_costs_what_the_table_of_peers_says() -> None:
    price = price_of(annotator(model="gpt-4o", base_url=URL))
    assert price is not None
    assert 179_000 * price.cost_usd(900 + 4 * 255, 450) == pytest.approx(1665, abs=1)


def test_dated_names_have_their_familys_price_and_other_members_do_not() -> None:
    assert price_of(annotator(model="gpt-4o-2024-11-20", base_url=URL)) == price_of(
        annotator(model="gpt-4o", base_url=URL)
    )
    assert price_of(annotator(model="gpt-4o-audio", base_url=URL)) is None
    assert price_of(annotator(model="some-open-model", base_url=URL)) is None


def test_settings_override_the_table_and_the_embedded_judge_is_free() -> None:
    own = PriceSettings(request_usd_per_million_tokens=1, reply_usd_per_million_tokens=2)
    assert price_of(annotator(model="gpt-4o", base_url=URL, price=own)) == Price(1.0, 2.0, 1.0)
    assert price_of(annotator()) == FREE
