"""Image references and modes, as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinetic_flows.core.errors import ImageError
from kinetic_flows.core.image_reference import ImageReference, mode_of, parse_reference

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag", "digest"),
    [
        ("python", "docker.io", "library/python", None, None),
        ("python:3.11-slim", "docker.io", "library/python", "3.11-slim", None),
        ("kinetic/base-cpu:0.1.0", "docker.io", "kinetic/base-cpu", "0.1.0", None),
        ("index.docker.io/python", "docker.io", "library/python", None, None),
        ("localhost/app", "localhost", "app", None, None),
        ("127.0.0.1:5000/a/b/c:v1", "127.0.0.1:5000", "a/b/c", "v1", None),
        ("us-docker.pkg.dev/p/r/i", "us-docker.pkg.dev", "p/r/i", None, None),
        (f"ghcr.io/a/b@{DIGEST}", "ghcr.io", "a/b", None, DIGEST),
        (f"ghcr.io/a/b:v1@{DIGEST}", "ghcr.io", "a/b", "v1", DIGEST),
        ("example.com:8443/a", "example.com:8443", "a", None, None),
    ],
)
def test_a_reference_is_taken_apart(
    text: str, registry: str, repository: str, tag: str | None, digest: str | None
) -> None:
    assert parse_reference(text) == ImageReference(
        registry=registry, repository=repository, tag=tag, digest=digest
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not lower-case words"),
        ("Kinetic/app", "capital letters"),
        ("gcr.io/My/app", "capital letters"),
        ("a//b", "not lower-case words"),
        ("app:", "its tag ''"),
        ("app:a b", "its tag 'a b'"),
        ("app@sha256:123", "its digest"),
        ("https://gcr.io/a/b", "its"),
        ("a" * 300, "longer than 255"),
        ("gcr.io/a\n", "not lower-case words"),
        ("app:v1\n", "its tag"),
        (f"app@{DIGEST}\n", "its digest"),
    ],
)
def test_what_is_no_reference_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(ImageError, match=why) as raised:
        parse_reference(text)
    assert raised.value.value == text
    assert "registry/repository:tag" in str(raised.value.hint)


PART = st.from_regex(r"[a-z0-9]{1,8}", fullmatch=True)


@given(
    host=st.sampled_from(["gcr.io", "localhost:5000", "docker.io", "us-docker.pkg.dev"]),
    path=st.lists(PART, min_size=2, max_size=4),
    tag=st.none() | PART,
    digest=st.none() | st.just(DIGEST),
)
def test_a_reference_is_printed_as_it_is_read(
    host: str, path: list[str], tag: str | None, digest: str | None
) -> None:
    reference = ImageReference(registry=host, repository="/".join(path), tag=tag, digest=digest)

    assert parse_reference(str(reference)) == reference


def test_the_immutable_reference_has_the_digest_and_no_tag() -> None:
    assert str(parse_reference("gcr.io/a/b:v1").at(DIGEST)) == f"gcr.io/a/b@{DIGEST}"


@pytest.mark.parametrize(
    ("value", "mode"),
    [
        (None, "bundled"),
        ("bundled", "bundled"),
        (" Prebuilt ", "prebuilt"),
        ("us-docker.pkg.dev/p/r/i:v1", "custom"),
        ("python:3.11", "custom"),
    ],
)
def test_container_image_names_a_mode_or_an_image(value: str | None, mode: str) -> None:
    assert mode_of(value) == mode


def test_a_misspelt_mode_is_not_taken_for_an_image() -> None:
    with pytest.raises(ImageError, match="did you mean 'prebuilt'"):
        mode_of("prebuild")
