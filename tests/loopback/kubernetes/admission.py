"""What the API server checks before it takes an object."""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import kubernetes_validate

from loopback.kubernetes.autopilot import Autopilot
from loopback.kubernetes.errors import ApiError
from loopback.kubernetes.image_volumes import (
    BY_DEFAULT,
    drop_image_volumes,
    numbers,
    volume_problems,
)
from loopback.kubernetes.pod_security import enforced, violations, warned
from loopback.kubernetes.quotas import exceeded
from loopback.kubernetes.store import KINDS, Kind, Object, Store, random_suffix
from loopback.kubernetes.volumes import mount_problems

Webhook = Callable[[str, Object], str | None]
"""Given the plural and the object, says why it is refused; None to let it pass."""

DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
DEFAULTS_PAGE = "(see http://g.co/gke/autopilot-defaults)."
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_IGNORED_POD_FIELDS = ("parallelism", "completions")
"""Fields that Prefect's worker writes into pod specs.

A real API server drops unknown fields with a warning; so are these two. Any other is refused.
"""


@dataclass
class Admission:
    """The checks of one cluster.

    Attributes:
        store: The cluster's objects.
        version: Kubernetes version whose schemas are used.
        image_volumes: Whether the feature gate `ImageVolume` is open; None for as it is by default.
        webhooks: Further checks, as admission webhooks and quotas make them.
        autopilot: The rules of Autopilot, where they hold.
    """

    store: Store
    version: str = "1.31"
    image_volumes: bool | None = None
    webhooks: list[Webhook] = field(default_factory=list)
    autopilot: Autopilot = field(default_factory=Autopilot)

    def check(self, plural: str, namespace: str, body: Object) -> Object:
        """Return the object as it is to be stored, or refuse it."""
        kind = KINDS[plural]
        item: dict[str, Any] = without_nulls(body)
        item.setdefault("apiVersion", kind.api_version)
        item.setdefault("kind", kind.name)
        if kind.namespaced:
            self._check_namespace(namespace, item)
        if plural == "jobs":
            for name in _IGNORED_POD_FIELDS:
                item.get("spec", {}).get("template", {}).get("spec", {}).pop(name, None)
        self._check_schema(kind, item)
        if plural == "jobs":
            if not self.takes_image_volumes:
                drop_image_volumes(item["spec"]["template"]["spec"])
            check_job(item, self.version)
            self._ask_autopilot(item["spec"]["template"])
        if plural == "persistentvolumeclaims":
            self._give_class(item)
        for webhook in self.webhooks:
            if refusal := webhook(plural, item):
                raise ApiError(403, refusal)
        if refusal := exceeded(self.store, plural, namespace, _name_of(item)):
            raise ApiError(403, refusal)
        return item

    @property
    def takes_image_volumes(self) -> bool:
        """Whether pods keep their volumes that are images."""
        by_default = numbers(self.version) >= BY_DEFAULT
        return by_default if self.image_volumes is None else self.image_volumes

    def warnings(self, plural: str, namespace: str, item: Object) -> list[str]:
        """Return what the API server warns of when it takes an object.

        That a Job's pods would be refused is no reason to refuse the Job.
        """
        if plural != "jobs":
            return []
        level = warned(self.store.get("namespaces", "", namespace))
        found = violations(level, item["spec"]["template"]["spec"])
        changed = self.autopilot.adjust(deepcopy(item["spec"]["template"]))
        who = f"autopilot-default-resources-mutator:Autopilot updated Job {namespace}/"
        return [
            *([f"would violate {found}"] if found else []),
            *(f"{who}{_name_of(item)}: {words} {DEFAULTS_PAGE}" for words in changed),
        ]

    def check_pod(self, namespace: str, pod: Object) -> None:
        """Refuse a pod that the Job controller wants to make."""
        account = pod["spec"].get("serviceAccountName", "default")
        name = pod["metadata"].get("name", "")
        if not any(
            item["metadata"]["name"] == account
            for item in self.store.list("serviceaccounts", namespace)
        ):
            raise ApiError(
                403,
                f'pods "{name}" is forbidden: error looking up service account '
                f'{namespace}/{account}: serviceaccount "{account}" not found',
            )
        level = enforced(self.store.get("namespaces", "", namespace))
        if broken := violations(level, pod["spec"]):
            raise ApiError(403, f'pods "{name}" is forbidden: violates {broken}')
        self._ask_autopilot(pod)
        for webhook in self.webhooks:
            if refusal := webhook("pods", pod):
                raise ApiError(403, refusal)
        if refusal := exceeded(self.store, "pods", namespace, name):
            raise ApiError(403, refusal)

    def _ask_autopilot(self, pod: Object) -> None:
        if refusal := self.autopilot.refusal(pod):
            raise ApiError(400, refusal, reason="GKE Warden constraints violations")

    def _give_class(self, claim: Object) -> None:
        """Give a claim that names no storage class the default one."""
        for each in self.store.list("storageclasses"):
            if (each["metadata"].get("annotations") or {}).get(DEFAULT_CLASS) == "true":
                claim["spec"].setdefault("storageClassName", each["metadata"]["name"])

    def _check_namespace(self, namespace: str, item: Object) -> None:
        self.store.get("namespaces", "", namespace)
        inside = item.get("metadata", {}).get("namespace", namespace)
        if inside != namespace:
            raise ApiError(
                400,
                f"the namespace of the provided object does not match the namespace sent on "
                f"the request: {inside!r}, {namespace!r}",
            )

    def _check_schema(self, kind: Kind, item: Object) -> None:
        metadata = item.get("metadata") or {}
        if not metadata.get("name") and not metadata.get("generateName"):
            raise ApiError(422, f"{kind.name} is invalid: metadata.name: Required value")
        if kind.custom:
            return
        try:
            kubernetes_validate.validate(item, self.version, strict=True)
        except kubernetes_validate.ValidationError as error:
            raise ApiError(400, f"strict decoding error: {error.message}") from error


def without_nulls(item: Any) -> Any:
    """Return an object without fields that are null, which is to leave them out."""
    if isinstance(item, dict):
        return {key: without_nulls(value) for key, value in item.items() if value is not None}
    return [without_nulls(each) for each in item] if isinstance(item, list) else item


def _name_of(item: Object) -> str:
    metadata = item["metadata"]
    return str(metadata.get("name") or f"{metadata.get('generateName', '')}{random_suffix()}")


def check_job(job: Object, version: str) -> None:
    """Check the rules of Jobs that no schema can say.

    https://kubernetes.io/docs/concepts/workloads/controllers/job/
    """
    spec: dict[str, Any] = job["spec"]
    pod = spec["template"]["spec"]
    problems = []
    if pod.get("restartPolicy") not in ("Never", "OnFailure"):
        problems.append('spec.template.spec.restartPolicy: Required value: "OnFailure", "Never"')
    if spec.get("podFailurePolicy") and pod.get("restartPolicy") != "Never":
        problems.append("spec.podFailurePolicy: only with restartPolicy Never")
    if spec.get("completionMode") == "Indexed":
        host = f"{job['metadata'].get('name', '')}-{spec.get('completions', 1) - 1}"
        if job["metadata"].get("name") and not _DNS_LABEL.fullmatch(host):
            problems.append(f"metadata.name: {host!r} cannot be the host name of a pod")
    problems += _resource_problems(pod["containers"])
    problems += [*volume_problems(pod, version), *mount_problems(pod)]
    if problems:
        name = job["metadata"].get("name", "")
        raise ApiError(422, f'Job.batch "{name}" is invalid: {"; ".join(problems)}')


def _resource_problems(containers: list[Object]) -> list[str]:
    """Extended resources cannot be overcommitted: requests must be the limits."""
    problems = []
    for container in containers:
        resources = container.get("resources", {})
        limits, requests = resources.get("limits", {}), resources.get("requests", {})
        for name, amount in requests.items():
            if "/" in name and str(limits.get(name)) != str(amount):
                problems.append(f"resources.limits: must be set to requests of {name}")
    return problems
