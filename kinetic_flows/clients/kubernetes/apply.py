"""Objects made as wanted by server-side apply, which leaves alone what others have set.

https://kubernetes.io/docs/reference/using-api/server-side-apply/
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from kinetic_flows.clients.kubernetes.client import KubernetesClient, KubernetesRefused

FIELD_MANAGER = "kinetic"
"""The name under which the cluster notes what was set from here."""

_APPLY = "application/apply-patch+yaml"
_OWNER = re.compile(r'conflict with "([^"]+)"')
_KEYS = ("mountPath", "containerPort", "port", "name")
"""By which field items of a list are told apart, the first that they have.

Mounts and ports have names, too, which are not what tells them apart.
"""

KubernetesObject = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Edit:
    """A field that somebody else has set, to something else than is wanted.

    Attributes:
        field: Its path, as Kubernetes writes it: `.spec.replicas`.
        manager: Who set it, such as `kubectl-edit`.
    """

    field: str
    manager: str

    def __str__(self) -> str:
        return f"{self.field} stays as {self.manager} has set it"


@dataclass(frozen=True, kw_only=True)
class Applied:
    """What became of an object that was applied.

    Attributes:
        object: The object as it is then.
        edits: What was left as others have set it.
    """

    object: dict[str, Any]
    edits: tuple[Edit, ...] = ()


def object_path(item: KubernetesObject, *, collection: bool = False) -> str:
    """Return the path of an object in the API, or of its kind where it is.

    Args:
        item: The object; one that names no namespace is of the cluster.
        collection: Whether the path of the kind is meant.
    """
    version, metadata = str(item["apiVersion"]), item["metadata"]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    if metadata.get("namespace"):
        root += f"/namespaces/{metadata['namespace']}"
    path = f"{root}/{_plural(str(item['kind']))}"
    return path if collection else f"{path}/{metadata['name']}"


def read_object(client: KubernetesClient, item: KubernetesObject) -> dict[str, Any] | None:
    """Return an object as it is; None when it, or its namespace, is not there.

    Args:
        client: The cluster.
        item: What names it: its `apiVersion`, `kind` and `metadata`.

    Raises:
        KubernetesRefused: The cluster refuses.
        KubernetesUnreachable: It does not answer.
    """
    try:
        return client.ask("GET", object_path(item))
    except KubernetesRefused as refusal:
        if refusal.status != HTTPStatus.NOT_FOUND:
            raise
        return None


def apply_object(
    client: KubernetesClient, item: KubernetesObject, *, only_try: bool = False
) -> Applied:
    """Make an object as wanted, but for what somebody else has set in it.

    Args:
        client: The cluster.
        item: The object as wanted; the fields that it has are ours from then on.
        only_try: Whether the cluster only says what the object would be.

    Raises:
        KubernetesRefused: The cluster refuses.
        KubernetesUnreachable: It does not answer.
    """
    query = {"fieldManager": FIELD_MANAGER, **({"dryRun": "All"} if only_try else {})}
    wanted, edits = copy.deepcopy(dict(item)), dict[str, Edit]()
    while True:
        try:
            made = client.ask(
                "PATCH", object_path(item), query=query, body=wanted, media_type=_APPLY
            )
        except KubernetesRefused as refusal:
            found = {edit.field: edit for edit in _edits(refusal)}
            # A second time without a new one, leaving out does not help.
            if not found.keys() - edits.keys() or not _leave_out(wanted, set(found)):
                raise
            edits |= found
        else:
            return Applied(object=made, edits=tuple(edits.values()))


def create_object(client: KubernetesClient, item: KubernetesObject) -> bool:
    """Make an object unless it is there; return whether this call made it.

    Raises:
        KubernetesRefused: The cluster refuses.
        KubernetesUnreachable: It does not answer.
    """
    try:
        client.ask("POST", object_path(item, collection=True), body=dict(item))
    except KubernetesRefused as refusal:
        if refusal.status != HTTPStatus.CONFLICT:
            raise
        return False
    return True


def delete_object(client: KubernetesClient, item: KubernetesObject) -> None:
    """Delete an object, with what belongs to it; harmless when it is gone.

    Raises:
        KubernetesRefused: The cluster refuses.
        KubernetesUnreachable: It does not answer.
    """
    options = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
    try:
        client.ask("DELETE", object_path(item), body=options)
    except KubernetesRefused as refusal:
        if refusal.status != HTTPStatus.NOT_FOUND:
            raise


def _plural(kind: str) -> str:
    name = kind.lower()
    if name.endswith("s"):
        return f"{name}es"
    return f"{name[:-1]}ies" if name.endswith("y") else f"{name}s"


def _edits(refusal: KubernetesRefused) -> Iterator[Edit]:
    """Yield the fields for which an object was refused because others have set them."""
    if refusal.status != HTTPStatus.CONFLICT:
        return
    try:
        status = json.loads(refusal.body)
    except ValueError:
        return
    for cause in (status.get("details") or {}).get("causes") or ():
        owner = _OWNER.search(str(cause.get("message")))
        if cause.get("reason") == "FieldManagerConflict" and owner:
            yield Edit(field=str(cause.get("field")), manager=owner[1])


def _leave_out(item: Any, fields: set[str], path: str = "") -> bool:
    """Take fields out of an object; return whether one of them was there."""
    found = False
    if isinstance(item, dict):
        for name in list(item):
            here = f"{path}.{name}"
            if here in fields:
                del item[name]
                found = True
            else:
                found = _leave_out(item[name], fields, here) or found
    elif isinstance(item, list):
        for each in item:
            found = _leave_out(each, fields, f"{path}{_key(each)}") or found
    return found


def _key(item: Any) -> str:
    """Return an item's place in its list, as Kubernetes writes it."""
    if not isinstance(item, dict):
        return ""
    names: Sequence[str] = [next((name for name in _KEYS if name in item), "")]
    if names[0] in ("containerPort", "port"):
        names = [names[0], "protocol"]
    given = {"protocol": "TCP", "": "", **item}
    return "[" + ",".join(f"{name}={json.dumps(given[name])}" for name in names) + "]"
