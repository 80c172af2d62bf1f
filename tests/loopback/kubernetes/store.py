"""The objects of the cluster, their versions, and those who watch them."""

from __future__ import annotations

import asyncio
import base64
import copy
import secrets
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from loopback.kubernetes.errors import ApiError, not_found
from loopback.kubernetes.managed_fields import Owners

Object = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of object and where the API serves it; a custom one, when it is defined."""

    name: str
    plural: str
    api_version: str = "v1"
    namespaced: bool = True
    custom: bool = False

    @property
    def group(self) -> str:
        return self.api_version.rpartition("/")[0]


RBAC = "rbac.authorization.k8s.io/v1"

KINDS = {
    kind.plural: kind
    for kind in (
        Kind(name="Job", plural="jobs", api_version="batch/v1"),
        Kind(name="Pod", plural="pods"),
        Kind(name="Secret", plural="secrets"),
        Kind(name="ConfigMap", plural="configmaps"),
        Kind(name="Service", plural="services"),
        Kind(name="ServiceAccount", plural="serviceaccounts"),
        Kind(name="Event", plural="events"),
        Kind(name="PodTemplate", plural="podtemplates"),
        Kind(name="ResourceQuota", plural="resourcequotas"),
        Kind(name="LimitRange", plural="limitranges"),
        Kind(name="PersistentVolumeClaim", plural="persistentvolumeclaims"),
        Kind(name="Namespace", plural="namespaces", namespaced=False),
        Kind(name="Node", plural="nodes", namespaced=False),
        Kind(name="PersistentVolume", plural="persistentvolumes", namespaced=False),
        *(
            Kind(name=name, plural=plural, api_version="storage.k8s.io/v1", namespaced=False)
            for name, plural in (("CSIDriver", "csidrivers"), ("StorageClass", "storageclasses"))
        ),
        Kind(name="Deployment", plural="deployments", api_version="apps/v1"),
        Kind(name="StatefulSet", plural="statefulsets", api_version="apps/v1"),
        Kind(name="NetworkPolicy", plural="networkpolicies", api_version="networking.k8s.io/v1"),
        *(
            Kind(name=name, plural=f"{name.lower()}s", api_version=RBAC)
            for name in ("Role", "RoleBinding")
        ),
        *(
            Kind(name=name, plural=f"{name.lower()}s", api_version=RBAC, namespaced=False)
            for name in ("ClusterRole", "ClusterRoleBinding")
        ),
        Kind(
            name="CustomResourceDefinition",
            plural="customresourcedefinitions",
            api_version="apiextensions.k8s.io/v1",
            namespaced=False,
        ),
        *(
            Kind(
                name=name,
                plural=f"{name.lower()}s",
                api_version="kueue.x-k8s.io/v1beta2",
                namespaced=name == "LocalQueue",
                custom=True,
            )
            for name in ("ResourceFlavor", "ClusterQueue", "LocalQueue")
        ),
        Kind(
            name="ProvisioningRequest",
            plural="provisioningrequests",
            api_version="autoscaling.x-k8s.io/v1",
            custom=True,
        ),
        Kind(
            name="ComputeClass",
            plural="computeclasses",
            api_version="cloud.google.com/v1",
            namespaced=False,
            custom=True,
        ),
    )
}

_NEW_STATUS: dict[str, dict[str, object]] = {
    "jobs": {},
    "pods": {"phase": "Pending"},
    "deployments": {},
    "statefulsets": {"replicas": 0},
}


@dataclass(frozen=True, kw_only=True)
class Change:
    """One version of one object, as watchers see it."""

    version: int
    type: str
    plural: str
    object: Object


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def random_suffix() -> str:
    return "".join(secrets.choice("bcdfghjklmnpqrstvwxz2456789") for _ in range(5))


class Store:
    """Every object, by kind, namespace and name; every change, in order."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[tuple[str, str], Object]] = {plural: {} for plural in KINDS}
        self._watchers: set[asyncio.Queue[Change]] = set()
        self._owners: dict[str, Owners] = {}
        self.history: list[Change] = []
        self.version = 0

    def create(self, plural: str, namespace: str, body: Object) -> Object:
        """Add an object, with a generated name where it asks for one."""
        kind, item = KINDS[plural], copy.deepcopy(body)
        metadata = item.setdefault("metadata", {})
        if not metadata.get("name"):
            metadata["name"] = metadata.get("generateName", "") + random_suffix()
        key = (namespace, metadata["name"])
        if key in self._objects[plural]:
            raise ApiError(409, f'{plural} "{metadata["name"]}" already exists')
        if kind.namespaced:
            metadata["namespace"] = namespace
        metadata.update(uid=str(uuid.uuid4()), creationTimestamp=now(), generation=1)
        item.update(apiVersion=kind.api_version, kind=kind.name)
        if plural == "secrets":
            _encode_secret(item)
        elif plural in _NEW_STATUS:
            item.setdefault("status", dict(_NEW_STATUS[plural]))
        self._objects[plural][key] = item
        return self._publish("ADDED", plural, item)

    def get(self, plural: str, namespace: str, name: str) -> Object:
        return copy.deepcopy(self._stored(plural, namespace, name))

    def list(self, plural: str, namespace: str | None = None) -> Sequence[Object]:
        """Return the objects of a kind, of one namespace or of all; not to be changed."""
        items = self._objects[plural].items()
        return [item for (place, _), item in items if namespace in (None, place)]

    def current(self, plural: str, seen: Object) -> Object | None:
        """Return an object seen earlier as it is now; None when it is gone."""
        metadata = seen["metadata"]
        key = (metadata.get("namespace", ""), metadata["name"])
        item = self._objects[plural].get(key)
        same = item is not None and item["metadata"]["uid"] == metadata["uid"]
        return item if same else None

    def owned(self, plural: str, owner: Object) -> Sequence[Object]:
        """Return the objects that belong to another."""
        return [item for item in self.list(plural) if _owner_uid(item) == owner["metadata"]["uid"]]

    def edit(
        self, plural: str, namespace: str, name: str, change: Callable[[Object], object]
    ) -> Object:
        """Change an object; watchers see nothing when it stays as it was."""
        item = self._stored(plural, namespace, name)
        before = copy.deepcopy(item)
        change(item)
        if item == before:
            return before
        if item.get("spec") != before.get("spec"):
            item["metadata"]["generation"] = item["metadata"].get("generation", 1) + 1
        return self._publish("MODIFIED", plural, item)

    def owners(self, item: Object) -> Owners:
        """Return who set which of an object's fields."""
        return self._owners.setdefault(item["metadata"]["uid"], Owners())

    def remove(self, plural: str, namespace: str, name: str) -> Object:
        """Take an object away at once."""
        item = self._stored(plural, namespace, name)
        del self._objects[plural][namespace, name]
        return self._publish("DELETED", plural, item)

    @contextmanager
    def watching(self) -> Iterator[asyncio.Queue[Change]]:
        """Receive every change from now on."""
        queue: asyncio.Queue[Change] = asyncio.Queue()
        self._watchers.add(queue)
        try:
            yield queue
        finally:
            self._watchers.discard(queue)

    def record_event(self, about: Object, kind: str, reason: str, message: str) -> None:
        """Write an event about an object."""
        metadata = about["metadata"]
        namespace = metadata.get("namespace", "default")
        moment = now()
        reference = {
            "kind": about["kind"],
            "namespace": namespace,
            "name": metadata["name"],
            "uid": metadata["uid"],
        }
        self.create(
            "events",
            namespace,
            {
                "metadata": {"generateName": f"{metadata['name']}."},
                "involvedObject": reference,
                "reason": reason,
                "message": message,
                "type": kind,
                "count": 1,
                "firstTimestamp": moment,
                "lastTimestamp": moment,
                "source": {"component": "loopback"},
            },
        )

    def _stored(self, plural: str, namespace: str, name: str) -> Object:
        try:
            return self._objects[plural][namespace, name]
        except KeyError:
            raise not_found(plural, name) from None

    def _publish(self, kind: str, plural: str, item: Object) -> Object:
        self.version += 1
        item["metadata"]["resourceVersion"] = str(self.version)
        seen = copy.deepcopy(item)
        change = Change(version=self.version, type=kind, plural=plural, object=seen)
        self.history.append(change)
        for queue in self._watchers:
            queue.put_nowait(change)
        return copy.deepcopy(item)


def set_condition(item: Object, kind: str, value: str, reason: str, message: str = "") -> None:
    """Set a condition of an object's status, keeping its time while its status stays."""
    conditions = item.setdefault("status", {}).setdefault("conditions", [])
    old = next((c for c in conditions if c["type"] == kind), None)
    new = {"type": kind, "status": value, "reason": reason, "message": message}
    if old is None or {key: old.get(key) for key in new} != new:
        conditions[:] = [c for c in conditions if c["type"] != kind]
        conditions.append({**new, "lastTransitionTime": now()})


def has_condition(item: Object, kind: str) -> bool:
    conditions = item.get("status", {}).get("conditions", ())
    return any(c["type"] == kind and c["status"] == "True" for c in conditions)


def is_finished(job: Object) -> bool:
    return has_condition(job, "Complete") or has_condition(job, "Failed")


def _owner_uid(item: Object) -> str | None:
    owners = item["metadata"].get("ownerReferences") or []
    return owners[0]["uid"] if owners else None


def _encode_secret(item: Object) -> None:
    plain = item.pop("stringData", None) or {}
    encoded = {key: base64.b64encode(text.encode()).decode() for key, text in plain.items()}
    item["data"] = {**(item.get("data") or {}), **encoded}
