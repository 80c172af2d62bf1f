"""The block that keeps results of builds, and what it does not believe."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from typing import Any

import pytest
from kinetic_flows.blocks import KineticBuildCache
from prefect._internal.result_records import ResultRecord, ResultRecordMetadata
from prefect.blocks.core import Block
from prefect.serializers import JSONSerializer, PickleSerializer
from prefect.testing.standard_test_suites import BlockStandardTestSuite

from kinetic_flows.clients.prefect.build_cache import ENTRY_POINT, ENTRY_POINT_GROUP, plain_record


class TestKineticBuildCache(BlockStandardTestSuite):
    @pytest.fixture
    def block(self) -> type[Block]:
        return KineticBuildCache

    def test_has_a_valid_image(self, block: type[Block]) -> None:
        """Stands for the suite's, which downloads the logo."""
        assert str(block._logo_url).startswith("https://")


def test_the_library_finds_the_block_by_the_names_it_uses() -> None:
    from importlib.metadata import entry_points

    (found,) = entry_points(group=ENTRY_POINT_GROUP, name=ENTRY_POINT)
    assert found.load() is KineticBuildCache


def test_prefect_finds_every_block_and_the_library_does_not_wait_for_google_s() -> None:
    program = """
import sys
from importlib.metadata import entry_points
from kinetic_flows import blocks

(found,) = entry_points(group="kinetic_flows.blocks")
found.load()
assert "prefect_gcp" not in sys.modules
(found,) = entry_points(group="prefect.collections", name="kinetic_flows")
collection = found.load()
assert set(blocks.__all__) == {name for name in dir(collection) if name[0].isupper()}
"""
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("name", sorted(KineticBuildCache.model_fields))
def test_every_field_has_an_example(name: str) -> None:
    assert KineticBuildCache.model_fields[name].examples


def _record(value: Any, serializer: Any) -> bytes:
    metadata = ResultRecordMetadata(storage_key="k", serializer=serializer)
    record: ResultRecord[Any] = ResultRecord(metadata=metadata, result=value)
    return record.serialize()


def test_a_record_of_prefect_s_own_is_read_as_it_was_written() -> None:
    value = {"reference": "r@sha256:1", "digest": "sha256:1", "labels": {"a": "b"}}

    read: ResultRecord[Any] = ResultRecord.deserialize(
        plain_record(_record(value, JSONSerializer()))
    )

    assert read.result == value
    assert read.metadata.storage_key == "k"


class Exploit:
    """Says what it did, if anybody unpickles it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("a record from the bucket was unpickled",)


def test_a_pickle_in_the_bucket_is_never_unpickled() -> None:
    record = json.loads(_record("x", PickleSerializer()))
    record["result"] = PickleSerializer(picklelib="pickle").dumps(Exploit()).decode()
    assert pickle.dumps(Exploit())

    with pytest.raises(ValueError, match="Expecting value"):
        plain_record(json.dumps(record).encode())


@pytest.mark.parametrize(
    "serializer",
    [
        JSONSerializer(object_decoder="pytest.fail"),
        JSONSerializer(loads_kwargs={"cls": "pytest.fail"}),
        JSONSerializer(),
    ],
)
def test_a_record_cannot_say_what_its_value_becomes(serializer: JSONSerializer[Any]) -> None:
    record = json.loads(_record({}, JSONSerializer()))
    record["metadata"]["serializer"] = serializer.model_dump()
    record["result"] = json.dumps({"__class__": "subprocess.Popen", "data": ["false"]})

    read: ResultRecord[Any] = ResultRecord.deserialize(plain_record(json.dumps(record).encode()))

    assert read.result == {"__class__": "subprocess.Popen", "data": ["false"]}


@pytest.mark.parametrize("content", [b"", b"[]", b'{"a": 1}', b'{"metadata": {}, "result": 1}'])
def test_what_is_no_record_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever the words, Prefect computes it anew
        plain_record(content)
