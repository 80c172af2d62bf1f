"""`volumes=`: how they are written, refused, and told in a job."""

from __future__ import annotations

from typing import Any

import pytest

from kinetic_flows.core.data import Data
from kinetic_flows.core.errors import UsageError
from kinetic_flows.core.job_parts import VolumeSpec
from kinetic_flows.core.options import RunOptions
from kinetic_flows.core.volumes import (
    Volume,
    bytes_of,
    data_of_volumes,
    parse_volumes,
    volume_places,
    volume_specs,
)


def parsed(**volumes: Any) -> dict[str, Volume]:
    return parse_volumes("volumes", {f"/{name}": value for name, value in volumes.items()})


def test_data_may_be_written_as_its_source_alone():
    assert parsed(data="gs://bucket/c4")["/data"].data == Data("gs://bucket/c4")


def test_what_is_mounted_is_read_only_unless_it_is_said_otherwise():
    kept = parsed(a=Data("gs://bucket/x", mode="mount"))["/a"]
    written = parsed(a=Data("gs://bucket/x", mode="mount", read_only=False))["/a"]
    assert (kept.read_only, written.read_only) == (True, False)


@pytest.mark.parametrize(
    ("given", "claim", "sub_path", "read_only"),
    [
        ("pvc:datasets", "datasets", "", False),
        ("pvc:datasets:ro", "datasets", "", True),
        ("pvc:datasets/c4/en", "datasets", "c4/en", False),
        ("pvc:datasets/c4/:ro", "datasets", "c4", True),
    ],
)
def test_a_claim_may_have_a_directory_and_be_read_only(
    given: str, claim: str, sub_path: str, read_only: bool
):
    volume = parsed(data=given)["/data"]
    assert (volume.claim, volume.sub_path, volume.read_only) == (claim, sub_path, read_only)


def test_a_scratch_disk_has_a_size_and_can_be_written_to():
    volume = parsed(scratch="scratch:1.5Ti")["/scratch"]
    assert (volume.kind, volume.size, volume.read_only) == ("scratch", "1.5Ti", False)
    assert str(volume) == "scratch:1.5Ti"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"data": "gs://b"}, "give absolute paths"),
        ({"/": "gs://b"}, "give absolute paths"),
        ({"/a/../b": "gs://b"}, "give absolute paths"),
        ({"/a b": "gs://b"}, "give absolute paths"),
        ({"/tmp/x": "gs://b"}, "/tmp is the image's own"),
        ({"//tmp/x": "gs://b"}, "/tmp is the image's own"),
        ({"/data": "gs://b", "/data/": "gs://c"}, "two of its paths are one"),
        ({"/kinetic/data/0": "gs://b"}, "/kinetic is the image's own"),
        ({"/a": "gs://b", "/a/b": "gs://c"}, "it is inside of /a"),
        ({"/a": "pvc:Not_A_Name"}, "a PersistentVolumeClaim's name"),
        ({"/a": "pvc:claim/../.."}, "a PersistentVolumeClaim's name"),
        ({"/a": "scratch:"}, "scratch:100Gi"),
        ({"/a": "scratch:0Gi"}, "scratch:100Gi"),
        ({"/a": "scratch:10GB"}, "scratch:100Gi"),
        ({"/a": "scratch:10"}, "that is a few bytes; give its unit: scratch:10Gi"),
        ({"/a": 7}, "'pvc:claim' or 'scratch:100Gi'"),
        (["/a"], "give a mapping"),
    ],
)
def test_what_cannot_be_a_volume_is_refused_with_what_to_write(value: Any, said: str):
    with pytest.raises(UsageError) as raised:
        RunOptions().updated({"volumes": value})
    assert said in str(raised.value)


def test_a_job_names_the_data_of_its_volumes_by_their_place_behind_that_of_the_call():
    volumes = parsed(
        a="gs://bucket/x", scratch="scratch:10Gi", c="hf://datasets/o/n", d="pvc:claim/in"
    )
    assert data_of_volumes(volumes) == (Data("gs://bucket/x"), Data("hf://datasets/o/n"))
    assert volume_specs(volumes, 3) == (
        VolumeSpec(path="/a", kind="data", data=3),
        VolumeSpec(path="/scratch", kind="scratch", read_only=False, size="10Gi"),
        VolumeSpec(path="/c", kind="data", data=4),
        VolumeSpec(path="/d", kind="claim", read_only=False, claim="claim", sub_path="in"),
    )


def test_another_place_or_another_claim_makes_another_call():
    assert volume_places(parsed(a="gs://bucket/x", d="pvc:claim/in", s="scratch:1Gi")) == [
        ["/a", ""],
        ["/d", "pvc:claim/in"],
        ["/s", "scratch:1Gi"],
    ]
    assert volume_places(None) == []


def test_no_volumes_are_no_specs():
    assert (data_of_volumes(None), volume_specs(None, 2)) == ((), ())


@pytest.mark.parametrize(
    ("quantity", "size"),
    [
        ("512", 512),
        ("1k", 1000),
        ("1Ki", 1024),
        ("2M", 2_000_000),
        ("1.5Gi", 3 << 29),
        ("0.5Gi", 1 << 29),
    ],
)
def test_sizes_are_read_as_kubernetes_reads_them(quantity: str, size: int):
    assert bytes_of(quantity) == size
