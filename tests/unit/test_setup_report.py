"""What `kinetic init`, `up`, `status` and `down` print of what is to be done and what it costs."""

from __future__ import annotations

import io

from kinetic_flows.cli.setup.report import (
    Line,
    cost_lines,
    described,
    dollars,
    plan_lines,
    print_lines,
    several,
    total_monthly,
)
from kinetic_flows.platforms.gke.setup.model import Change, Cost

CLUSTER = Change(
    kind="cluster",
    name="kinetic-cluster",
    action="create",
    details=("Standard, zonal",),
    cost=Cost(monthly_usd=73.0, hourly_usd=0.0, note="its control plane"),
)
POOL = Change(
    kind="node pool",
    name="l4",
    action="create",
    cost=Cost(monthly_usd=0.0, hourly_usd=2.83, note="4 x g2-standard-4"),
)


def apis(*names: str) -> list[Change]:
    return [Change(kind="API", name=name, action="create") for name in names]


def printed(lines) -> str:
    out = io.StringIO()
    print_lines(lines, out)
    return out.getvalue()


def test_what_is_alike_and_says_no_more_shares_a_line():
    assert printed(plan_lines(apis("container", "iam", "storage"))) == (
        "  + 3 APIs: container, iam, storage\n"
    )


def test_two_of_a_kind_have_a_line_each():
    assert printed(plan_lines(apis("container", "iam"))) == "  + API container\n  + API iam\n"


def test_what_has_something_to_say_stands_alone_with_it_and_its_cost():
    assert printed(plan_lines([CLUSTER])) == (
        "  + cluster kinetic-cluster · $73 a month\n      Standard, zonal\n"
    )


def test_what_is_left_says_why_and_what_is_as_wanted_is_counted():
    left = Change(kind="bucket", name="data", action="leave", why="it holds results")
    kept = Change(kind="namespace", name="default", action="keep")
    assert printed(plan_lines([kept, left])) == (
        "  · bucket data\n      it holds results\n  = 1 thing is as wanted\n"
    )


def test_the_clusters_own_accounts_are_called_by_their_names():
    roles = Change(
        kind="roles on",
        name="project my-project",
        action="change",
        details=(
            "roles/a to serviceAccount:kn-x-nodes@my-project.iam.gserviceaccount.com",
            "roles/b to user:alice@example.com",
        ),
    )
    assert printed(plan_lines([roles])).splitlines()[1:] == [
        "      roles/a to kn-x-nodes",
        "      roles/b to user:alice@example.com",
    ]
    assert "@my-project" in described(roles)["details"][0]


def test_costs_are_told_a_month_and_for_an_hour_of_use():
    assert printed(cost_lines([CLUSTER, POOL])).splitlines()[:4] == [
        "  about $73 a month while nothing runs",
        "    cluster kinetic-cluster: $73 (its control plane)",
        "  and for each hour in which it is used, at most",
        "    node pool l4: $2.83 (4 x g2-standard-4)",
    ]


def test_what_is_removed_costs_nothing_any_more():
    removed = Change(kind="cluster", name="x", action="remove", cost=Cost(monthly_usd=73.0))
    assert total_monthly([removed, POOL]) == 0
    assert "about $0.00 a month" in printed(cost_lines([removed]))


def test_a_price_that_is_not_known_is_said_to_be_so():
    unknown = Change(
        kind="node pool", name="x", action="create", cost=Cost(monthly_usd=0.0, hourly_usd=None)
    )
    assert "    node pool x: not known" in printed(cost_lines([unknown]))


def test_names_of_others_give_the_terminal_no_orders():
    evil = Change(kind="bucket", name="a\x1b[2Jb\nc", action="leave", why="\x1b]0;x\x07")
    shown = printed(plan_lines([evil]))
    assert "\x1b" not in shown
    assert len(shown.splitlines()) == 2


def test_lines_are_whole_and_without_colours_where_there_is_no_terminal():
    text = "word " * 60
    assert printed([Line(text=text.strip(), mark="+", style="32")]) == f"  + {text.strip()}\n"


def test_counts_are_in_words_that_exist():
    assert [several(1, "policy"), several(2, "policy"), several(2, "key")] == [
        "1 policy",
        "2 policies",
        "2 keys",
    ]


def test_dollars_have_cents_where_they_matter():
    assert [dollars(0.4), dollars(9.999), dollars(1234.5)] == ["$0.40", "$10.00", "$1,234"]


def test_a_change_is_plain_json_values():
    assert described(POOL) == {
        "kind": "node pool",
        "name": "l4",
        "action": "create",
        "details": [],
        "why": None,
        "cost": {"monthly_usd": 0.0, "hourly_usd": 2.83, "note": "4 x g2-standard-4"},
    }
