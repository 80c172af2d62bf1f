"""Patches of the API server: JSON patches, merge patches, and server-side apply."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

import jsonpatch

from loopback.kubernetes.admission import Admission
from loopback.kubernetes.errors import ApiError
from loopback.kubernetes.store import KINDS, Object, Store

APPLY = "application/apply-patch+yaml"


class Patches:
    """Changes objects as patches say.

    Args:
        store: The cluster's objects.
        admission: What is checked before they are taken.
    """

    def __init__(self, store: Store, admission: Admission) -> None:
        self._store = store
        self._admission = admission

    def apply(
        self, plural: str, namespace: str, name: str, text: str, query: Mapping[str, str]
    ) -> tuple[int, Object]:
        """Apply an object, and return the answer's status and the object."""
        who = query.get("fieldManager")
        if not who:
            raise ApiError(
                422,
                "PatchOptions.meta.k8s.io is invalid: fieldManager: Required value: is required "
                "for apply patch",
            )
        wanted: Object = json.loads(text)
        self._check_identity(plural, name, wanted)
        dry, force = bool(query.get("dryRun")), query.get("force", "") == "true"
        try:
            live = self._store.get(plural, namespace, name)
        except ApiError:
            return 201, self._make(plural, namespace, wanted, who, dry=dry)
        owners = self._store.owners(live)
        tried = copy.deepcopy(owners)
        merged = tried.apply(live, wanted, who, force=force)
        checked = self._admission.check(plural, namespace, _bare(merged))
        if not dry:

            def change(item: Object) -> None:
                given = item["metadata"]
                item.clear()
                item.update({**checked, "metadata": {**given, **checked["metadata"]}})
                for field in ("labels", "annotations"):
                    if field not in checked["metadata"]:
                        item["metadata"].pop(field, None)

            merged = self._store.edit(plural, namespace, name, change)
            owners.applied, owners.updated = tried.applied, tried.updated
        return 200, merged

    def patch(
        self, plural: str, namespace: str, name: str, text: str, query: Mapping[str, str]
    ) -> Object:
        """Change an object by a JSON patch or a merge patch."""
        patch = json.loads(text)

        def change(item: Object) -> None:
            if isinstance(patch, list):
                patched = jsonpatch.apply_patch(item, patch)
                item.clear()
                item.update(patched)
            else:
                merge(item, patch)

        return self.update(plural, namespace, name, change, query.get("fieldManager", "unknown"))

    def update(self, plural: str, namespace: str, name: str, change: Any, who: str) -> Object:
        """Change an object, and take note of who did."""
        before = self._store.get(plural, namespace, name)
        after = self._store.edit(plural, namespace, name, change)
        self._store.owners(before).note_update(before, after, who)
        return after

    def _make(self, plural: str, namespace: str, wanted: Object, who: str, *, dry: bool) -> Object:
        body = self._admission.check(plural, namespace, wanted)
        if dry:
            return body
        made = self._store.create(plural, namespace, body)
        self._store.owners(made).apply({}, wanted, who, force=False)
        return made

    def _check_identity(self, plural: str, name: str, wanted: Object) -> None:
        kind, metadata = KINDS[plural], wanted.get("metadata") or {}
        said = (wanted.get("apiVersion"), wanted.get("kind"), metadata.get("name"))
        if said != (kind.api_version, kind.name, name):
            raise ApiError(
                400, f"what is applied, {said}, is not what the request's path says, {name!r}"
            )
        if metadata.get("managedFields"):
            raise ApiError(400, "metadata.managedFields must be nil")


def merge(item: Object, patch: Object) -> None:
    """Apply a JSON merge patch (RFC 7386)."""
    for key, value in patch.items():
        if value is None:
            item.pop(key, None)
        elif isinstance(value, dict) and isinstance(item.get(key), dict):
            merge(item[key], value)
        else:
            item[key] = value


def _bare(item: Object) -> Object:
    return copy.deepcopy(item)
