"""What a cluster's image repository keeps, read from the registry; and what the cluster uses."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

from kinetic_flows.clients.kubernetes.client import (
    KubernetesClient,
    KubernetesRefused,
    core_path,
    jobs_path,
)
from kinetic_flows.clients.prefect.api import PrefectApi
from kinetic_flows.clients.prefect.image_uses import PrefectImageUses
from kinetic_flows.clients.registry.manifests import ListedManifest
from kinetic_flows.clients.registry.repository import RegistryWriter
from kinetic_flows.core.errors import ImageError, LaunchError
from kinetic_flows.core.files import write_atomically
from kinetic_flows.core.image_reference import parse_reference
from kinetic_flows.core.interruption import in_threads
from kinetic_flows.core.slug import slug
from kinetic_flows.images.assembly.layer_plan import read_history
from kinetic_flows.images.base_image_specs import BASES
from kinetic_flows.images.kept_images import KINDS, KeptImage, Kind, Use
from kinetic_flows.images.labels import LABEL_BASE_NAME
from kinetic_flows.images.tags import (
    base_image,
    controller_image,
    layers_image,
    packages_image,
    project_image,
)

AT_A_TIME = 16


def read_images(registry: RegistryWriter, repository: str, home: Path) -> tuple[KeptImage, ...]:
    """Return all that a repository keeps of projects' images, bases, the controller and layers.

    Args:
        registry: The registry.
        repository: The repository, such as `us-docker.pkg.dev/project/kinetic`.
        home: `KINETIC_HOME`, where it is kept since when each is known.

    Raises:
        ImageError: The repository cannot be read.
    """
    names = names_in(repository)
    listings = in_threads(registry.listing, names, threads=AT_A_TIME)
    wanted = [
        (name, kind, listed)
        for (name, kind), found in zip(names.items(), listings, strict=True)
        for listed in found
    ]
    found = in_threads(lambda item: _read(registry, *item), wanted, threads=AT_A_TIME)
    images = _merged(image for image in found if image is not None)
    return _since_when(images, home / "images" / f"seen-{slug(repository)}.json")


def prefect_uses(api: PrefectApi, names: Collection[str], since: datetime) -> list[Use]:
    """Return what behind a Prefect API uses some images.

    Args:
        api: The API.
        names: The images' names, as `names_in` has them.
        since: Runs that are over count when they were to begin, or ended, later.
    """
    users = PrefectImageUses(api).since(since)
    return [
        Use(by=by, reference=text) for by, value in users for text in references_in(value, names)
    ]


def cluster_uses(
    client: KubernetesClient, namespace: str, names: Collection[str], *, everywhere: bool
) -> list[Use]:
    """Return which of some images the Jobs and pods of a cluster use.

    Args:
        client: The cluster.
        namespace: Where to look, where this user may not look everywhere.
        names: The images' names, as `names_in` has them.
        everywhere: Whether one namespace is not enough.

    Raises:
        LaunchError: The cluster does not answer, or refuses.
    """
    found = []
    for kind, path in (("job", jobs_path(namespace)), ("pod", core_path(namespace, "pods"))):
        for item in _list(client, path, namespace, everywhere=everywhere):
            if _is_of_job(item):
                continue  # the Job has the same image, for longer
            by = f"{kind} {item['metadata']['namespace']}/{item['metadata']['name']}"
            texts = references_in(item.get("spec"), names)
            found += [Use(by=by, reference=text) for text in texts]
    return found


def references_in(value: Any, names: Collection[str]) -> Iterator[str]:
    """Yield every text in a value that names one of some images, whatever its tag or digest.

    One with a digest may name it through a mirror, or by another host of its registry.
    """
    if isinstance(value, str):
        with suppress(ImageError):
            if "/" in value and ((named := parse_reference(value)).digest or named.name in names):
                yield value
        return
    items = value.values() if isinstance(value, Mapping) else value
    if isinstance(items, Iterable):
        for item in items:
            yield from references_in(item, names)


def names_in(repository: str) -> dict[str, Kind]:
    """Return the names of images that a repository may have, and what each is."""
    bases = (
        base_image(repository, *((base.removesuffix("-lean"), "lean") if "-" in base else (base,)))
        for base in BASES
    )
    kinds: dict[str, Kind] = {
        project_image(repository, "cpu", ""): "project",
        packages_image(repository, "cpu", ""): "project",
        **dict.fromkeys(bases, "base"),
        controller_image(repository): "controller",
        layers_image(repository): "layer",
    }
    # Whatever their tags, and as references are written in full.
    return {parse_reference(name).name: kind for name, kind in kinds.items()}


def _is_of_job(item: Mapping[str, Any]) -> bool:
    owners = item["metadata"].get("ownerReferences") or ()
    return any(owner.get("kind") == "Job" for owner in owners)


def _list(
    client: KubernetesClient, path: str, namespace: str, *, everywhere: bool
) -> list[dict[str, Any]]:
    """Return the objects of all namespaces, or of the one that this user may see."""
    try:
        answer = client.ask("GET", path.replace(f"/namespaces/{namespace}/", "/"))
    except KubernetesRefused as refusal:
        if refusal.status != HTTPStatus.FORBIDDEN:
            raise
        if everywhere:
            raise LaunchError(
                f"the {path.rpartition('/')[2]} of all namespaces may not be listed, and one in "
                f"another than {namespace} may use an image",
                value=namespace,
                hint="have somebody do it who may view the cluster, or be granted it: kubectl "
                "create clusterrolebinding NAME --clusterrole=view --user=YOU",
            ) from refusal
        answer = client.ask("GET", path)
    items: list[dict[str, Any]] = answer.get("items") or []
    return items


def _read(
    registry: RegistryWriter, name: str, kind: Kind, listed: ListedManifest
) -> KeptImage | None:
    """Describe what a registry lists; None for what has gone meanwhile."""
    version = f"@{listed.digest}" if listed.digest else f":{listed.tags[0]}"
    manifest = registry.manifest(name + version)
    if manifest is None:
        return None
    document = json.loads(manifest.content)
    layers = _sizes(document.get("layers") or ())
    described = document.get("config")
    config = json.loads(registry.document(name, str(described["digest"]))) if described else {}
    labels = (config.get("config") or {}).get("Labels") or {}
    return KeptImage(
        name=name,
        kind=kind,
        digest=manifest.digest,
        tags=listed.tags,
        blobs={**layers, **_sizes([described] if described else ())},
        layers=frozenset(layers),
        parts=frozenset(str(item["digest"]) for item in document.get("manifests") or ()),
        base=_digest_in(str(labels.get(LABEL_BASE_NAME) or "")),
        title=_title(config) if kind == "layer" else "",
        pushed=listed.pushed,
        seen=datetime.now(UTC),
    )


def _sizes(descriptors: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Return the sizes of blobs by their digests."""
    return {str(item["digest"]): int(item["size"]) for item in descriptors}


def _digest_in(reference: str) -> str:
    with suppress(ImageError):
        return parse_reference(reference).digest or ""
    return ""


def _title(config: Mapping[str, Any]) -> str:
    """Return what a layer is, as its history tells it."""
    for entry in config.get("history") or ():
        with suppress(ImageError):
            plan = read_history(str(entry.get("created_by") or ""))
            if plan is not None:
                return f"{plan.title}{f' (Python {plan.python})' if plan.python else ''}"
    return ""


def _merged(images: Iterable[KeptImage]) -> list[KeptImage]:
    """Return each manifest once, with all its tags."""
    found: dict[tuple[str, str], KeptImage] = {}
    for image in images:
        known = found.get((image.name, image.digest))
        tags = {*image.tags, *(known.tags if known else ())}
        found[image.name, image.digest] = replace(image, tags=tuple(sorted(tags)))
    return sorted(
        found.values(), key=lambda image: (KINDS.index(image.kind), image.name, image.tags)
    )


def _since_when(images: list[KeptImage], path: Path) -> tuple[KeptImage, ...]:
    """Return images with the moments when this machine saw each first, which it keeps."""
    known: dict[str, str] = {}
    with suppress(OSError, ValueError):
        known = dict(json.loads(path.read_bytes()))
    seen = {image.digest: known.get(image.digest, image.seen.isoformat()) for image in images}
    with suppress(OSError):
        write_atomically(path, json.dumps(seen, indent=1).encode())
    return tuple(
        replace(image, seen=datetime.fromisoformat(seen[image.digest])) for image in images
    )
