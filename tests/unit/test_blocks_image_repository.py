"""The block that saves a repository of images and its login."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

import pytest
from kinetic_flows.blocks import ImageRepository, KineticCluster
from prefect.blocks.core import Block
from prefect.testing.standard_test_suites import BlockStandardTestSuite
from prefect_gcp import GcpCredentials
from pydantic import ValidationError

from service_accounts import service_account_info


class TestImageRepository(BlockStandardTestSuite):
    @pytest.fixture
    def block(self) -> type[Block]:
        return ImageRepository

    def test_has_a_valid_image(self, block: type[Block]) -> None:
        """Stands for the suite's, which downloads the logo."""
        assert str(block._logo_url).startswith("https://")


def test_prefect_finds_the_block_through_its_entry_point() -> None:
    (found,) = entry_points(group="prefect.collections", name="kinetic_flows")
    assert found.load().ImageRepository is ImageRepository


@pytest.mark.parametrize("name", sorted(ImageRepository.model_fields))
def test_every_field_has_an_example(name: str) -> None:
    assert ImageRepository.model_fields[name].examples


@pytest.mark.parametrize(
    ("repository", "registry"),
    [
        ("registry.example.com:5000/ml/kinetic", "registry.example.com:5000"),
        ("us-docker.pkg.dev/my-project/images", "us-docker.pkg.dev"),
        ("my-name/kinetic", "docker.io"),
        ("kinetic", "docker.io"),
    ],
)
def test_the_registry_is_the_repositorys(repository: str, registry: str) -> None:
    assert ImageRepository(repository=repository).registry == registry


def test_a_user_name_and_a_password_are_the_login_and_the_password_is_not_shown() -> None:
    block = ImageRepository(repository="a.example.com/b", username="me", password="hunter2")
    login = block.login()
    assert login is not None
    assert (login.username, login.password) == ("me", "hunter2")
    assert "hunter2" not in f"{block!r} {block} {login!r} {block.model_dump_json()}"


def test_without_credentials_there_is_no_login() -> None:
    block = ImageRepository(repository="a.example.com/b", username="", password="")
    assert block.login() is None


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"repository": "a.example.com/b:v1"}, "without a tag"),
        ({"repository": "a.example.com/b", "username": "me"}, "give both, or neither"),
        ({"repository": "a.example.com/b", "password": "hunter2"}, "give both, or neither"),
        ({"repository": "a.example.com/b", "build_login": "me:pass word"}, "two secrets"),
        (
            {
                "repository": "a.example.com/b",
                "username": "me",
                "password": "hunter2",
                "gcp_credentials": GcpCredentials(service_account_info=service_account_info()),
            },
            "not both",
        ),
    ],
)
def test_what_cannot_be_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        ImageRepository(**fields)


def test_a_cluster_refuses_two_repositories_for_one_thing() -> None:
    images = ImageRepository(repository="us-docker.pkg.dev/p/images")
    with pytest.raises(ValidationError, match="give one"):
        KineticCluster(project="my-project-1", image_repo="us-docker.pkg.dev/p/x", images=images)
    cluster = KineticCluster(project="my-project-1", images=images)
    assert cluster.image_repo is None
