"""What a repository keeps: how large each image and layer is, and what uses it. Pure.

In use is what a run, a Job, a deployment or a work pool names, what was pushed lately, and what an
image that is in use was made from: its base, and its layers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from kinetic_flows.core.errors import ImageError
from kinetic_flows.core.image_reference import parse_reference

Kind = Literal["project", "base", "controller", "layer"]
KINDS: tuple[Kind, ...] = ("project", "base", "controller", "layer")

PUSHED_LATELY = "pushed lately"


@dataclass(frozen=True, kw_only=True)
class KeptImage:
    """An image, or a layer, that a repository keeps.

    Attributes:
        name: Its name, without a tag.
        kind: What it is.
        digest: Digest of its manifest.
        tags: Its tags.
        blobs: The sizes of its layers and its configuration, by their digests.
        layers: Digests of its layers.
        parts: Digests of the manifests in it, if it is an index of platforms.
        base: Digest of the image it was made from, as its label has it; empty for none.
        title: What a layer holds, such as `numpy 2.1.0`; empty for an image.
        pushed: When it was pushed; None where the registry does not tell.
        seen: When this machine saw it first.
    """

    name: str
    kind: Kind
    digest: str
    tags: tuple[str, ...]
    blobs: Mapping[str, int]
    layers: frozenset[str]
    parts: frozenset[str] = frozenset()
    base: str = ""
    title: str = ""
    pushed: datetime | None
    seen: datetime

    @property
    def label(self) -> str:
        """Its name for people: the last part of its name, with its tag, else with its digest."""
        short = self.name.rpartition("/")[2]
        return f"{short}:{self.tags[0]}" if self.tags else f"{short}@{self.digest[:19]}"

    @property
    def since(self) -> datetime:
        """Since when it is there, at the least."""
        return self.pushed or self.seen

    @property
    def size_bytes(self) -> int:
        """Size of what a node pulls, compressed."""
        return sum(self.blobs.values())

    def is_made_from(self, other: KeptImage) -> bool:
        """Whether another image or layer is what this one was made from, or a part of it."""
        if self.kind == "layer" or other.digest == self.digest:
            return False
        if other.digest in self.parts or other.digest == self.base:
            return True
        if other.kind == "layer":
            return bool(other.layers & self.layers)
        # Of an image of somebody else's making, whose label does not tell.
        is_unlabelled = self.kind == "project" and not self.base
        return is_unlabelled and other.kind == "base" and frozenset() < other.layers <= self.layers


@dataclass(frozen=True, kw_only=True)
class Use:
    """Something that uses an image.

    Attributes:
        by: What it is, for people: `run 1b11d3df`, `deployment train/nightly`.
        reference: The image as it names it, by tag or digest.
    """

    by: str
    reference: str


@dataclass(frozen=True, kw_only=True)
class KeptState:
    """What is known of an image or a layer.

    Attributes:
        image: The image.
        own_bytes: How much of it no other image has; of a layer, how much no image has.
        used_by: What uses it; nothing for one that may go.
    """

    image: KeptImage
    own_bytes: int
    used_by: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        image = self.image
        return {
            "name": image.name,
            "kind": image.kind,
            "digest": image.digest,
            "tags": list(image.tags),
            "title": image.title or None,
            "bytes": image.size_bytes,
            "own_bytes": self.own_bytes,
            "shared_bytes": image.size_bytes - self.own_bytes,
            "pushed": image.pushed.isoformat() if image.pushed else None,
            "first_seen": image.seen.isoformat(),
            "used_by": list(self.used_by),
        }


def judge(
    images: Sequence[KeptImage],
    uses: Iterable[Use],
    *,
    since: datetime,
    elsewhere: Sequence[KeptImage] = (),
) -> tuple[KeptState, ...]:
    """Return what is known of everything that a repository keeps, in the same order.

    Args:
        images: All that it keeps.
        uses: What uses images now, or has since then.
        since: What was pushed later counts as in use.
        elsewhere: What another repository keeps, which may be made from this one's.
    """
    everything = (*images, *elsewhere)
    users: list[dict[str, None]] = [{} for _ in everything]
    staying: list[int] = []

    def note(place: int, user: str) -> None:
        # A layer is made from nothing; there are thousands.
        if not users[place] and everything[place].kind != "layer":
            staying.append(place)
        users[place][user] = None

    for place, user in _named_by(everything, uses):
        note(place, user)
    for place, image in enumerate(everything):
        if image.since >= since:
            note(place, PUSHED_LATELY)
    while staying:
        whole = everything[staying.pop()]
        for place, part in enumerate(everything):
            if whole.is_made_from(part):
                note(place, f"image {whole.label}")
    own = _own_bytes(images)
    return tuple(
        KeptState(image=image, own_bytes=own[place], used_by=tuple(users[place]))
        for place, image in enumerate(images)
    )


def freed_bytes(states: Iterable[KeptState]) -> int:
    """Return how much a registry no longer has to keep when all goes that nothing uses."""
    states = tuple(states)
    kept = {blob for state in states if state.used_by for blob in state.image.blobs}
    gone = {
        blob: size
        for state in states
        if not state.used_by
        for blob, size in state.image.blobs.items()
    }
    return sum(size for blob, size in gone.items() if blob not in kept)


def kept_bytes(states: Iterable[KeptState]) -> int:
    """Return how much a registry keeps: each blob once, however many images have it."""
    blobs = {blob: size for state in states for blob, size in state.image.blobs.items()}
    return sum(blobs.values())


def _named_by(images: Sequence[KeptImage], uses: Iterable[Use]) -> list[tuple[int, str]]:
    """Return which images are named, and by what."""
    by_digest, by_tag = defaultdict(list), {}
    for place, image in enumerate(images):
        by_digest[image.digest].append(place)
        by_tag.update(dict.fromkeys(((image.name, tag) for tag in image.tags), place))
    found = []
    for use in uses:
        try:
            named = parse_reference(use.reference)
        except ImageError:
            continue  # a text that only looks like one
        places = by_digest[named.digest] if named.digest else []
        tagged = by_tag.get((named.name, named.version))
        found += [(place, use.by) for place in places]
        found += [(tagged, use.by)] if tagged is not None else []
    return found


def _own_bytes(images: Sequence[KeptImage]) -> list[int]:
    """Return how much each has that no other image has; layers do not count as such."""
    owners: defaultdict[str, set[str]] = defaultdict(set)
    for image in images:
        if image.kind != "layer":
            for blob in image.blobs:
                owners[blob].add(image.digest)
    return [
        sum(size for blob, size in image.blobs.items() if not owners[blob] - {image.digest})
        for image in images
    ]
