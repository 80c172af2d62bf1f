"""What people may write for an accelerator, and what it means on GKE."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinetic_flows.core.accelerators import NodePool, list_accelerators, parse_accelerator
from kinetic_flows.core.errors import AcceleratorError

ROWS = st.sampled_from(list_accelerators())

V6E_8 = NodePool(name="v6e", accelerator="tpu-v6e-slice", count_per_host=8, topology="2x4")
V5E_8 = NodePool(name="v5e", accelerator="tpu-v5-lite-podslice", count_per_host=8, topology="2x4")
L4_X4 = NodePool(name="l4", accelerator="nvidia-l4", count_per_host=4)


def refusal(text: str, pools: list[NodePool] | None = None) -> AcceleratorError:
    with pytest.raises(AcceleratorError) as caught:
        parse_accelerator(text, pools=pools)
    assert caught.value.value == text
    return caught.value


@given(ROWS, st.booleans())
def test_every_row_parses_from_its_canonical_name(row, shout):
    text = str(row).upper() if shout else str(row)
    assert parse_accelerator(text) == row


@given(ROWS)
def test_every_row_parses_on_spot_from_its_canonical_name(row):
    spot = parse_accelerator(f"{row}:spot")
    assert parse_accelerator(str(spot)) == spot
    assert str(spot) == f"{row}:spot"
    assert spot.node_selector == {**row.node_selector, "cloud.google.com/gke-spot": "true"}


@given(ROWS)
def test_every_row_names_its_source_and_can_be_written_as_json(row):
    assert row.category == "cpu" or row.source.startswith("https://cloud.google.com/")
    assert json.loads(json.dumps(row.to_json()))["name"] == str(row)


@given(ROWS)
def test_the_hosts_of_a_slice_hold_all_its_chips(row):
    if row.category == "tpu":
        per_host = int(row.resources["google.com/tpu"])
        assert row.hosts * per_host == row.count
        assert row.machine_type.endswith(f"-{per_host}t")


def test_names_are_unique():
    names = [row.name for row in list_accelerators()]
    assert len(set(names)) == len(names)


@given(st.text(alphabet="gptuv0123456789xl4a-:e spot", max_size=20))
def test_any_text_is_an_accelerator_or_an_accelerator_error(text):
    try:
        found = parse_accelerator(text)
    except AcceleratorError as error:
        assert error.hint  # noqa: PT017 - either outcome is right
    else:
        assert parse_accelerator(str(found)) == found


def test_v6e_8_is_one_host_of_eight_chips():
    found = parse_accelerator("tpu-v6e-8")
    assert (found.machine_type, found.topology, found.hosts) == ("ct6e-standard-8t", "2x4", 1)
    assert found.node_selector == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v6e-slice",
        "cloud.google.com/gke-tpu-topology": "2x4",
    }
    assert found.resources == {"google.com/tpu": "8"}
    assert found.description == "8 TPU chips (2x4) on 1 host of ct6e-standard-8t"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("cpu", "cpu"),
        ("L4", "l4"),
        ("gpu-l4", "l4"),
        ("gpu:l4", "l4"),
        (" nvidia-l4 ", "l4"),
        ("l4x1", "l4"),
        ("a100x4", "a100x4"),
        ("gpu-a100-80gbx8", "a100-80gbx8"),
        ("h100", "h100"),
        ("H100x8", "h100x8"),
        ("h200", "h200x8"),
        ("gb200", "gb200x4"),
        ("rtx-pro-6000", "rtx-pro-6000"),
        ("gpu:rtx-pro-6000x2", "rtx-pro-6000x2"),
        ("v5litepod-4", "tpu-v5litepod-4"),
        ("v5e-8", "tpu-v5litepod-8"),
        ("tpu:v5e-2x4", "tpu-v5litepod-8"),
        ("tpu-v6e", "tpu-v6e-8"),
        ("trillium-4", "tpu-v6e-4"),
        ("tpu-v5p-2x2x2", "tpu-v5p-2x2x2"),
        ("tpu-v5p-8", "tpu-v5p-2x2x2"),
        ("v4", "tpu-v4-2x2x1"),
        ("tpu-v5p-4x8x12", "tpu-v5p-4x8x12"),
        ("tpu7x", "tpu7x-2x2x1"),
        ("tpu7x-2x2x2", "tpu7x-2x2x2"),
        ("tpu-v7x-4", "tpu7x-2x2x1"),
        ("ironwood", "tpu7x-2x2x1"),
    ],
)
def test_a_name_may_be_written_in_many_ways(text, name):
    assert parse_accelerator(text).name == name


def test_a_slice_of_many_hosts_asks_for_the_chips_of_one_host():
    found = parse_accelerator("tpu-v5p-2x2x2")
    assert (found.count, found.hosts, found.resources) == (8, 2, {"google.com/tpu": "4"})


def test_grace_machines_are_arm():
    assert parse_accelerator("gb200").architecture == "arm64"
    assert parse_accelerator("b200").architecture == "amd64"


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("h10", "h100"),
        ("tpu-v6", "tpu-v6e"),
        ("v6", "tpu-v6e"),
        ("gpu-a10", "a100"),
        ("cpus", "cpu"),
    ],
)
def test_an_unknown_name_gets_the_nearest(text, nearest):
    assert f"did you mean '{nearest}'?" in str(refusal(text).hint)


def test_a_gpu_prefix_refuses_a_tpu():
    assert "there is no accelerator 'gpu-v6e'" in refusal("gpu-v6e").message


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("l4x3", "sizes: l4, l4x2, l4x4, l4x8"),
        ("h200x4", "sizes: h200x8"),
        ("v6e-3", "sizes: tpu-v6e-1, tpu-v6e-4, tpu-v6e-8, tpu-v6e-16"),
        ("v6e-2x3", "sizes: tpu-v6e-1"),
        ("tpu-v5p-4x2x2", "sizes: tpu-v5p-2x2x1, tpu-v5p-2x2x2"),
        ("tpu-v5p-64x64x64", "sizes: tpu-v5p-2x2x1"),
        ("tpu-v6e-4x4x4", "sizes: tpu-v6e-1"),
    ],
)
def test_an_impossible_size_lists_the_sizes(text, sizes):
    assert str(refusal(text).hint).startswith(sizes)


def test_a_count_alone_takes_the_only_type_the_cluster_has_that_many_of():
    assert parse_accelerator("tpu:8", pools=[V6E_8, L4_X4]).name == "tpu-v6e-8"
    assert parse_accelerator("gpu:4", pools=[V6E_8, L4_X4]).name == "l4x4"
    assert parse_accelerator("gpu:2", pools=[V6E_8, L4_X4]).name == "l4x2"


def test_a_count_alone_without_a_cluster_lists_what_would_fit():
    error = refusal("tpu:8")
    assert "does not say which TPU" in error.message
    assert "tpu-v6e-8" in str(error.hint)
    assert "tpu-v5litepod-8" in str(error.hint)


def test_a_count_that_nothing_has_lists_the_counts():
    assert refusal("gpu:3").hint == "counts that exist: 1, 2, 4, 8, 16"


def test_a_count_that_fits_several_pools_is_never_guessed():
    error = refusal("tpu:8", [V6E_8, V5E_8])
    assert error.hint == "name one of: tpu-v5litepod-8, tpu-v6e-8"


def test_a_count_that_no_pool_has_lists_the_pools():
    error = refusal("tpu:8", [L4_X4])
    assert "the cluster's node pools: l4 (nvidia-l4)" in str(error.hint)
    assert "tpu-v6e-8" in str(error.hint)


def test_spot_needs_a_pool_of_spot_nodes():
    spot = NodePool(name="s", accelerator="nvidia-l4", count_per_host=4, spot=True)
    assert str(parse_accelerator("gpu:4:spot", pools=[spot])) == "l4x4:spot"
    refusal("gpu:4:spot", [L4_X4])


def test_eight_chips_on_two_hosts_are_not_what_v6e_8_asks_for():
    two_hosts = NodePool(name="4t", accelerator="tpu-v6e-slice", count_per_host=4, topology="2x4")
    assert not two_hosts.offers(parse_accelerator("tpu-v6e-8"))
    assert V6E_8.offers(parse_accelerator("tpu-v6e-8"))


def test_a_node_tells_its_pool():
    node = {
        "metadata": {
            "labels": {
                "cloud.google.com/gke-nodepool": "v6e",
                "cloud.google.com/gke-tpu-accelerator": "tpu-v6e-slice",
                "cloud.google.com/gke-tpu-topology": "2x4",
                "node.kubernetes.io/instance-type": "ct6e-standard-8t",
            }
        },
        "status": {"capacity": {"cpu": "180", "google.com/tpu": "8"}},
    }
    pool = NodePool.from_node(node)
    assert pool.offers(parse_accelerator("tpu-v6e-8"))
    assert str(pool) == "v6e (tpu-v6e-slice 2x4 ct6e-standard-8t)"
