"""What an hour costs: the list, people's own prices, and limits that cannot be counted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from kinetic_flows.core.accelerators import list_accelerators, parse_accelerator, prices
from kinetic_flows.core.accelerators.prices import Price, price_name, price_of, priced_as
from kinetic_flows.core.errors import ConfigurationError, UsageError
from kinetic_flows.core.job_parts import CostLimit
from kinetic_flows.core.money import dollars
from kinetic_flows.core.settings.price_values import check_prices
from kinetic_flows.core.settings.settings import load_settings
from kinetic_flows.plans.cost import (
    check_max_cost,
    cost_limit,
    hourly_in_words,
)
from kinetic_flows.plans.planned_cost import hourly_words, planned_cost


@pytest.mark.parametrize(
    ("name", "hosts", "hourly"),
    [
        ("tpu-v6e-8", 1, 8 * 2.70),
        ("v6e-256", 1, 256 * 2.70),
        ("v5p-2x2x2", 1, 8 * 4.20),
        ("a100x2", 1, 2 * (2.93391 + 0.73948)),
        ("a100x2", 3, 6 * (2.93391 + 0.73948)),
    ],
)
def test_an_hour_costs_what_all_chips_of_all_hosts_do(name: str, hosts: int, hourly: float) -> None:
    price = price_of(parse_accelerator(name).times(hosts=hosts), {})
    assert price is not None
    assert price.hourly == pytest.approx(hourly)
    assert prices.AS_OF in price.source


@pytest.mark.parametrize("name", ["tpu-v6e-8:spot", "tpu-v6e-8:flex", "cpu", "gb200"])
def test_what_no_list_has_is_not_known(name: str) -> None:
    assert price_of(parse_accelerator(name), {}) is None


def test_own_prices_are_those_of_a_chip_a_node_or_this_machine() -> None:
    own = check_prices({"trillium": 2, "v6e:spot": 0.5, "cpu": 0.2, "local": 3}, "prices")
    assert own == {"tpu-v6e": 2.0, "tpu-v6e:spot": 0.5, "cpu": 0.2, "local": 3.0}

    def hourly(name: str, hosts: int = 1, *, is_here: bool = False) -> float | None:
        price = price_of(parse_accelerator(name).times(hosts=hosts), own, is_here=is_here)
        return price and price.hourly

    assert (hourly("v6e-8"), hourly("v6e-8:spot"), hourly("v6e-8:flex")) == (16.0, 4.0, None)
    assert (hourly("cpu"), hourly("cpu", 4)) == (0.2, pytest.approx(0.8))
    assert hourly("v6e-8", is_here=True) == 3.0
    assert hourly("l4") == pytest.approx(1.0, abs=0.01), "what they leave out is the list's"


def test_nothing_is_paid_for_this_machine_unless_somebody_says_so() -> None:
    assert price_of(parse_accelerator("v6e-8"), {"tpu-v6e": 9.0}, is_here=True) is None


def test_every_accelerator_can_be_given_a_price() -> None:
    for each in list_accelerators():
        assert price_name(priced_as(each)) == priced_as(each)


def test_prices_are_read_from_a_file_too(tmp_path: Path) -> None:
    file = tmp_path / "prices.json"
    file.write_text(json.dumps({"h100": 7}))
    assert check_prices(str(file), "KINETIC_PRICES") == {"h100": 7.0}
    assert load_settings({"KINETIC_PRICES": str(file)}).own_prices == {"h100": 7.0}


@pytest.mark.parametrize(
    ("given", "told", "hint"),
    [
        ('{"v6e-8": 1}', "a price for 'v6e-8', which is no family", "give one for 'tpu-v6e'"),
        ('{"h10": 1}', "a price for 'h10', which is no family", "did you mean"),
        ('{"local:spot": 1}', "no family of accelerators", "local"),
        ('{"h100": "7$"}', "an hour of h100 costs '7$'", "as a number"),
        ('{"h100": true}', "an hour of h100 costs True", "as a number"),
        ('{"h100": -1}', "an hour of h100 costs -1", "as a number"),
        ('{"h100": NaN}', "an hour of h100 costs nan", "as a number"),
        ('{"h100": 7', "KINETIC_PRICES is not JSON", "write it as"),
        ("/no/such.json", "'/no/such.json', which cannot be read: No such file", "JSON file"),
        ([7], "KINETIC_PRICES is [7]", "by family"),
    ],
)
def test_what_is_no_price_is_refused(given: Any, told: str, hint: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        check_prices(given, "KINETIC_PRICES")
    assert told in refused.value.message
    assert hint in str(refused.value.hint)


def test_a_file_that_has_no_prices_is_named(tmp_path: Path) -> None:
    file = tmp_path / "prices.json"
    file.write_text("[]")
    with pytest.raises(ConfigurationError, match=r"prices\.json\) is \[\]"):
        check_prices(str(file), "KINETIC_PRICES")


def _limited(
    *names: str, environ: Mapping[str, str] | None = None, is_here: bool = False
) -> tuple[str, ...]:
    known = [parse_accelerator(name) for name in names]
    return check_max_cost(20.0, known, load_settings(environ or {}), is_here=is_here)


def test_a_limit_is_refused_where_no_price_is_known() -> None:
    assert _limited("v6e-8", "h100x8") == ()
    with pytest.raises(UsageError, match="max_cost is 20, and what an hour of tpu-v6e-8:spot"):
        _limited("v6e-8", "v6e-8:spot")
    given = {"KINETIC_PRICES": '{"tpu-v6e:spot": 1.5}'}
    assert _limited("v6e-8", "v6e-8:spot", environ=given) == ()


def test_the_refusal_says_what_to_set() -> None:
    with pytest.raises(UsageError) as refused:
        _limited("cpu")
    assert "KINETIC_PRICES='{\"cpu\": 1.5}' for an hour of each node" in str(refused.value.hint)


def test_a_limit_does_nothing_on_a_machine_that_costs_nothing() -> None:
    (told,) = _limited("v6e-8", is_here=True)
    assert told.startswith("max_cost=20 does nothing on this machine")
    assert _limited("v6e-8", environ={"KINETIC_PRICES": '{"local": 2}'}, is_here=True) == ()


def test_a_run_is_told_what_it_costs_where_that_is_known() -> None:
    v6e, settings = parse_accelerator("v6e-8"), load_settings({})
    limit = cost_limit(20.0, v6e, settings, is_here=False)
    assert limit == CostLimit(hourly=pytest.approx(21.6), limit=20.0)
    assert cost_limit(20.0, v6e, settings, is_here=True) is None
    assert cost_limit(None, v6e, settings, is_here=False) is None


def test_a_plan_says_what_earlier_runs_cost() -> None:
    price = Price(hourly=36.0, source="a list")
    cost = planned_cost(price, [200.0, 100.0, 400.0])
    assert cost is not None
    assert (cost.runs, cost.median, cost.last) == (3, pytest.approx(2.0), pytest.approx(2.0))
    fresh = planned_cost(price, [])
    assert fresh is not None
    assert (fresh.hourly, fresh.median) == (36.0, None)
    assert planned_cost(None, [1.0]) is None


def test_a_page_says_what_an_hour_of_each_accelerator_costs() -> None:
    several = [parse_accelerator(name) for name in ("v6e-8", "v6e-8:spot", "l4")]
    assert hourly_in_words(several, {"l4": 1}, 20.0, is_here=False) == (
        "about $21.60 an hour (8 x $2.70) on tpu-v6e-8, about $1.00 an hour on l4, an estimate by "
        f"{prices.LIST_PRICES} and your own prices; ended when it has cost $20.00"
    )
    assert hourly_in_words(several[1:2], {}, None, is_here=False) == ""
    here = hourly_in_words(several[:1], {"local": 2}, None, is_here=True)
    assert here.startswith("about $2.00 an hour, an estimate")


def test_money_is_told_in_words() -> None:
    assert [dollars(each) for each in (0.0, 0.0012, 1e-9, 1.006, 1234.5)] == [
        "$0.00",
        "$0.0012",
        "$0.0001",
        "$1.01",
        "$1,234.50",
    ]
    v6e = parse_accelerator("v6e-8")
    price = price_of(v6e, {})
    assert price is not None
    assert hourly_words(price.hourly, v6e.count) == "about $21.60 an hour (8 x $2.70)"
