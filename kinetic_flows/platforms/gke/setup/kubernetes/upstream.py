"""Manifests that other projects publish with their releases, put into the cluster as they are.

A ConfigMap beside them says which release it was, and where it came from: by it a rerun knows
without fetching anything whether it is there, and `kinetic down` what to remove.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kinetic_flows.clients.kubernetes.apply import read_object
from kinetic_flows.clients.kubernetes.client import KubernetesRefused
from kinetic_flows.core.errors import CloudError, ConfigurationError
from kinetic_flows.core.lazy import LazyModule
from kinetic_flows.platforms.gke.setup.kubernetes.cluster_access import SetupCluster, refused
from kinetic_flows.platforms.gke.setup.kubernetes.cluster_objects import (
    ClusterObjects,
    KubernetesObject,
)
from kinetic_flows.platforms.gke.setup.kubernetes.manifest_sources import check_source, is_url
from kinetic_flows.platforms.gke.setup.kubernetes.shipped_manifests import objects_of
from kinetic_flows.platforms.gke.setup.model import Action, Change, Tell
from kinetic_flows.platforms.gke.setup.names import MANAGED_LABEL

if TYPE_CHECKING:
    import httpx
    import yaml
else:
    httpx = LazyModule("httpx")
    yaml = LazyModule("yaml")

MARKER = "kinetic-release"
ANOTHER = "another release"
"""The version of what is not taken from where it is published."""

FETCH_SECONDS = 60.0
LARGEST_BYTES = 20_000_000


@dataclass(frozen=True, kw_only=True)
class Release:
    """A release of another project.

    Attributes:
        project: What it is called: `Kueue`.
        version: The version that this one was made for: `v0.16.4`.
        url: Where its manifest is.
        namespace: The namespace that the manifest makes.
        option: The option that names another manifest: `--kueue-manifest`.
    """

    project: str
    version: str
    url: str
    namespace: str
    option: str


@dataclass(frozen=True, kw_only=True)
class UpstreamRelease:
    """A release of another project, in the cluster.

    Attributes:
        cluster: The cluster.
        release: The release.
        source: A file or URL to take its manifest from instead; None for where it is published.
        kind: What it is.
    """

    cluster: SetupCluster
    release: Release
    source: str | None = None
    kind: str = "add-on"

    @property
    def name(self) -> str:
        """Its name."""
        return self.release.project

    @property
    def where(self) -> str:
        """Where its manifest is taken from."""
        return self.source or self.release.url

    def creation(self) -> Change:
        """Return what is put into the cluster where it is not there."""
        return self._change("create", self._said)

    def compare(self) -> Change:
        """Compare what is in the cluster with the release; nothing is fetched."""
        standing = self.cluster.look().standing
        if standing == "missing":
            return self.creation()
        if standing == "coming":
            return self._change("unknown", why="the cluster is being made")
        marker = self._read(self._marker({}))
        if marker is None:
            if self._read(self._namespace()) is None or self._is_ours():
                return self.creation()
            return self._change("leave", why="it is there, put there by somebody else")
        before = marker.get("data") or {}
        if self.source is None and before.get("version") == ANOTHER:
            return self._change("keep")  # somebody chose it, and nobody names another
        if before.get("source") == self.where and before.get("version") == self._version:
            return self._change("keep")
        return self._change("change", self._said, f"now from {before.get('source')}")

    def apply(self, tell: Tell) -> None:
        """Put it into the cluster, and wait until its pods are ready."""
        if self.compare().action in ("keep", "leave"):
            return
        tell(f"fetching {self.where}")
        self._objects(self.where, tell)
        # Last, so that what was stopped half way is done again.
        marker = self._marker({"version": self._version, "source": self.where})
        self._as_objects((marker,)).apply(tell)

    def plan_removal(self, *, purge: bool) -> Change:  # noqa: ARG002 - it holds nobody's data
        """Return whether it is removed."""
        look = self.cluster.look()
        if look.standing != "there" or self._read(self._marker({})) is None:
            return self._change("keep")
        if look.is_ours:
            return self._change("remove", "with the cluster")
        return self._change("remove", "and what people made of its kinds")

    def remove(self, tell: Tell) -> None:
        """Remove what its manifest has made."""
        look = self.cluster.look()
        marker = self._read(self._marker({})) if look.standing == "there" else None
        if marker is None or look.is_ours:
            return
        source = str((marker.get("data") or {}).get("source") or self.where)
        tell(f"fetching {source}")
        self._as_objects((*self._fetched(source), self._marker({}))).remove(tell)

    @property
    def _said(self) -> str:
        version = "" if self.source else f"{self.release.version}, "
        return f"{version}from {self.where}"

    @property
    def _version(self) -> str:
        return ANOTHER if self.source else self.release.version

    def _change(self, action: Action, *details: str, why: str = "") -> Change:
        return Change(kind=self.kind, name=self.name, action=action, details=details, why=why)

    def _objects(self, source: str, tell: Tell) -> None:
        self._as_objects(self._fetched(source)).apply(tell)

    def _as_objects(self, items: tuple[KubernetesObject, ...]) -> ClusterObjects:
        return ClusterObjects(
            cluster=self.cluster, kind=self.kind, name=self.name, wanted=lambda: items
        )

    def _fetched(self, source: str) -> tuple[KubernetesObject, ...]:
        """Return the objects of its manifest.

        Raises:
            CloudError: It cannot be fetched.
            ConfigurationError: It is no manifest.
        """
        text = _read_text(source, self.release)
        try:
            found = objects_of(text)
        except yaml.YAMLError as error:
            raise _no_manifest(source, self.release) from error
        if not found or not all(map(_is_object, found)):
            raise _no_manifest(source, self.release)
        return found

    def _marker(self, data: Mapping[str, str]) -> dict[str, Any]:
        metadata = {"name": MARKER, "namespace": self.release.namespace}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": dict(data)}

    def _namespace(self) -> dict[str, Any]:
        metadata = {"name": self.release.namespace}
        return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}

    def _is_ours(self) -> bool:
        """Whether its namespace was made by us, so that the rest was stopped half way."""
        labels = ((self._read(self._namespace()) or {}).get("metadata") or {}).get("labels") or {}
        return labels.get(MANAGED_LABEL) == self.cluster.name

    def _read(self, item: KubernetesObject) -> dict[str, Any] | None:
        try:
            return read_object(self.cluster.client, item)
        except KubernetesRefused as refusal:
            raise refused(refusal, f"look for {self.name}") from refusal


def _read_text(source: str, release: Release) -> str:
    if not is_url(source):
        check_source(source, release.option)
        return Path(source).expanduser().read_text(encoding="utf-8")
    try:
        with httpx.Client(follow_redirects=True, timeout=FETCH_SECONDS) as client:
            answer = client.get(source)
            answer.raise_for_status()
            text: str = answer.text
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise CloudError(
            f"{release.project}'s manifest {source} cannot be fetched: {error}",
            value=source,
            hint=f"fetch it where that is possible, and give its path: {release.option} PATH",
        ) from error
    if len(text) > LARGEST_BYTES:
        raise _no_manifest(source, release)
    return text


def _is_object(item: Any) -> bool:
    has_name = isinstance(item, dict) and isinstance(item.get("metadata"), dict)
    return has_name and all(item.get(key) for key in ("apiVersion", "kind"))


def _no_manifest(source: str, release: Release) -> ConfigurationError:
    return ConfigurationError(
        f"{source} is no manifest of Kubernetes objects",
        value=source,
        hint=f"{release.project} publishes one with each release: {release.url}",
    )
