"""The block that saves a cluster."""

from __future__ import annotations

from dataclasses import fields
from importlib.metadata import entry_points
from typing import Any

import pytest
from kinetic_flows.blocks import KineticCluster
from kinetic_flows.blocks.kept_schema import KeptSchema
from prefect.blocks.core import Block
from prefect.testing.standard_test_suites import BlockStandardTestSuite
from pydantic import ValidationError

from kinetic_flows.clients.prefect.profiles import BLOCK_TYPE_SLUG
from kinetic_flows.core.settings.cloud import CloudSettings


class TestKineticCluster(BlockStandardTestSuite):
    @pytest.fixture
    def block(self) -> type[Block]:
        return KineticCluster

    def test_has_a_valid_image(self, block: type[Block]) -> None:
        """Stands for the suite's, which downloads the logo."""
        assert str(block._logo_url).startswith("https://")


def test_the_slug_is_the_one_that_profiles_are_loaded_by() -> None:
    assert KineticCluster.get_block_type_slug() == BLOCK_TYPE_SLUG == "kinetic-cluster"


def test_its_schema_is_the_one_that_prefect_computes_and_stays_so() -> None:
    kept = KineticCluster.model_json_schema()
    assert kept == super(KeptSchema, KineticCluster).model_json_schema()
    kept["properties"].clear()
    assert KineticCluster.model_json_schema()["properties"]


def test_prefect_finds_the_block_through_its_entry_point() -> None:
    (found,) = entry_points(group="prefect.collections", name="kinetic_flows")
    assert found.load().KineticCluster is KineticCluster


def test_the_block_can_save_every_cloud_setting() -> None:
    settable = {item.name for item in fields(CloudSettings)} - {"credentials", "logins", "sources"}
    blocks = {"gcp_credentials", "images", "base_images"}
    assert set(KineticCluster.model_fields) == settable | blocks


@pytest.mark.parametrize("name", sorted(KineticCluster.model_fields))
def test_every_field_has_an_example(name: str) -> None:
    assert KineticCluster.model_fields[name].examples


def test_every_example_is_a_valid_value() -> None:
    examples: dict[str, Any] = {
        name: (field.examples or [None])[0]
        for name, field in KineticCluster.model_fields.items()
        if name not in ("gcp_credentials", "images", "base_images")
    }
    assert KineticCluster(**examples).model_dump(include=set(examples)) == examples


def test_fields_left_empty_in_the_form_are_left_out() -> None:
    block = KineticCluster(project="my-project-1", zone="", registry_endpoints={})
    assert (block.zone, block.registry_endpoints) == (None, None)


def test_a_value_that_cannot_be_is_refused_when_it_is_saved() -> None:
    with pytest.raises(ValidationError, match="without gs://"):
        KineticCluster(project="my-project-1", jobs_bucket="gs://mine")
