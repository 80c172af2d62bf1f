"""What a repository keeps that something uses, and what may go."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from kinetic_flows.clients.prefect.api import PAGE_SIZE
from kinetic_flows.clients.prefect.image_uses import _all
from kinetic_flows.images.kept_images import (
    PUSHED_LATELY,
    KeptImage,
    KeptState,
    Kind,
    Use,
    freed_bytes,
    judge,
    kept_bytes,
)
from kinetic_flows.platforms.gke.kept_images import names_in, references_in

NOW = datetime(2026, 1, 31, tzinfo=UTC)
SINCE = NOW - timedelta(days=30)
LONG_AGO = NOW - timedelta(days=90)
REPOSITORY = "us-docker.pkg.dev/project/kn"


def digest(text: str) -> str:
    return f"sha256:{text.encode().hex():0>64}"


def image(
    tag: str,
    layers: Sequence[str],
    *,
    name: str = "app",
    kind: Kind = "project",
    base: str = "",
    pushed: datetime | None = LONG_AGO,
    seen: datetime = LONG_AGO,
) -> KeptImage:
    """An image whose layers have 10 bytes each, and whose configuration has 1."""
    blobs = {digest(layer): 10 for layer in layers}
    return KeptImage(
        name=f"{REPOSITORY}/{name}",
        kind=kind,
        digest=digest(f"m-{tag}"),
        tags=(tag,),
        blobs={**blobs, digest(f"c-{tag}"): 1},
        layers=frozenset(blobs),
        base=digest(f"m-{base}") if base else "",
        pushed=pushed,
        seen=seen,
    )


def layer(tag: str, blob: str) -> KeptImage:
    return image(tag, [blob], name="layers", kind="layer")


def base(tag: str, layers: Sequence[str]) -> KeptImage:
    return image(tag, layers, name="base-cpu", kind="base")


def unused(images: Sequence[KeptImage], *uses: Use) -> set[str]:
    states = judge(images, uses, since=SINCE)
    return {state.image.tags[0] for state in states if not state.used_by}


def named(reference: str) -> Use:
    return Use(by="run 1b11d3df", reference=reference)


EVERYTHING = (
    image("cpu-a", ["python", "jax", "numpy"], base="py3.11"),
    image("cpu-b", ["python", "jax", "scipy"], base="py3.11"),
    base("py3.11", ["python", "jax", "pip"]),
    base("py3.12", ["python", "jax12"]),
    layer("whl-numpy", "numpy"),
    layer("whl-scipy", "scipy"),
    layer("whl-jax", "jax"),
    layer("whl-jax12", "jax12"),
)


def test_what_nothing_names_may_go() -> None:
    assert unused(EVERYTHING) == {each.tags[0] for each in EVERYTHING}


def test_a_used_image_keeps_its_base_and_the_layers_of_both() -> None:
    used = named(f"{REPOSITORY}/app@{digest('m-cpu-a')}")
    assert unused(EVERYTHING, used) == {"cpu-b", "py3.12", "whl-scipy", "whl-jax12"}


def test_an_image_is_used_by_its_tag_and_by_its_digest_under_any_name() -> None:
    for reference in (f"{REPOSITORY}/app:cpu-a", f"other.dev/copy@{digest('m-cpu-a')}"):
        assert "cpu-a" not in unused(EVERYTHING, named(reference))
    for reference in (f"{REPOSITORY}/other:cpu-a", f"{REPOSITORY}/app", "not a reference"):
        assert "cpu-a" in unused(EVERYTHING, named(reference))


def test_an_image_of_a_dockerfile_keeps_the_base_that_it_begins_with() -> None:
    built = image("cpu-old", ["python", "jax", "pip", "extra"])
    assert "py3.11" not in unused((*EVERYTHING, built), named(f"{built.name}:cpu-old"))


def test_a_base_is_used_by_an_image_of_another_repository() -> None:
    images, elsewhere = EVERYTHING[2:4], EVERYTHING[:2]
    used = named(f"{REPOSITORY}/app:cpu-a")
    states = judge(images, (used,), since=SINCE, elsewhere=elsewhere)
    assert [state.used_by for state in states] == [("image app:cpu-a",), ()]
    assert [state.own_bytes for state in states] == [21, 11], "another repository shares nothing"


def test_what_was_pushed_lately_stays_and_so_does_what_was_not_known_for_as_long() -> None:
    lately = SINCE + timedelta(hours=1)
    images = (
        image("new", ["a"], pushed=lately, seen=LONG_AGO),
        image("old", ["b"], pushed=LONG_AGO, seen=lately),
        image("first-seen", ["c"], pushed=None, seen=lately),
        image("known", ["d"], pushed=None, seen=LONG_AGO),
    )
    assert unused(images) == {"old", "known"}
    assert judge(images, (), since=SINCE)[0].used_by == (PUSHED_LATELY,)


def test_an_index_keeps_the_images_in_it() -> None:
    whole, part = image("both", []), image("amd64", ["a"])
    whole = KeptImage(**{**vars(whole), "parts": frozenset({part.digest})})
    assert unused((whole, part), named(f"{whole.name}:both")) == set()


def test_sizes_are_told_apart_by_who_shares_them() -> None:
    def own(states: Sequence[KeptState]) -> dict[str, int]:
        return {state.image.tags[0]: state.own_bytes for state in states}

    states = judge(EVERYTHING, (), since=SINCE)

    assert own(states) == {
        "cpu-a": 11,
        "cpu-b": 11,
        "py3.11": 11,
        "py3.12": 11,
        "whl-numpy": 1,
        "whl-scipy": 1,
        "whl-jax": 1,
        "whl-jax12": 1,
    }
    assert states[0].image.size_bytes == 31
    assert kept_bytes(states) == freed_bytes(states) == 6 * 10 + len(EVERYTHING)


def test_nothing_is_freed_that_something_else_keeps() -> None:
    used = named(f"{REPOSITORY}/app@{digest('m-cpu-a')}")
    # scipy and jax12, and the configurations of those that go.
    assert freed_bytes(judge(EVERYTHING, (used,), since=SINCE)) == 2 * 10 + 4


def test_what_ends_while_it_is_listed_hides_nothing_else() -> None:
    going_on = list(range(5 * PAGE_SIZE))

    def read(*, limit: int, offset: int) -> list[int]:
        page = going_on[offset : offset + limit]
        del going_on[: PAGE_SIZE // 4]
        return page

    seen = set(_all(read))
    assert seen >= set(going_on)


def test_references_are_found_wherever_a_value_has_them() -> None:
    names = names_in(REPOSITORY)
    value = {
        "image": f"{REPOSITORY}/app:a",
        "volumes": [{"image": {"reference": f"{REPOSITORY}/packages@{digest('x')}"}}],
        "env": {"OTHER": "us-docker.pkg.dev/project/kn2/app:a", "N": 3, "TEXT": "a/b c"},
        "none": None,
        "mirrored": f"mirror.example.com/kn/app@{digest('y')}",
    }
    assert list(references_in(value, names)) == [
        f"{REPOSITORY}/app:a",
        f"{REPOSITORY}/packages@{digest('x')}",
        f"mirror.example.com/kn/app@{digest('y')}",
    ]


def test_docker_hubs_names_are_known_however_they_are_written() -> None:
    names = names_in("someone/kinetic")
    written = ["someone/kinetic-base-cpu:1", "docker.io/someone/kinetic-base-gpu-lean:1"]
    assert list(references_in(written, names)) == written
