"""The part of Compute Engine that setting up asks: routers with Cloud NAT, quotas, what zones have.

What is written is parsed by the messages of Google's own client, which is imported then only.
https://cloud.google.com/compute/docs/reference/rest/v1
"""

from __future__ import annotations

import functools
import importlib.util
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from kinetic_flows.core.accelerators import list_accelerators
from loopback.google.answers import Code, GoogleRefusal, invalid, missing, taken
from loopback.google.machines import REGIONS, ZONES, cpus_and_memory_mb, is_machine_type
from loopback.google.operations import Operations, Work
from loopback.google.rest import Asked, Route
from loopback.google.state import Caller, GoogleState, Project

_NAME = re.compile(r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?")
_RANGES = frozenset(
    (
        *("ALL_SUBNETWORKS_ALL_IP_RANGES", "ALL_SUBNETWORKS_ALL_PRIMARY_IP_RANGES"),
        "LIST_OF_SUBNETWORKS",
    )
)
_ROOT = r"/compute/v1/projects/([^/]+)"

Resource = dict[str, Any]


class Compute:
    """Routers, by project, region and name, and what there is to look at.

    Args:
        state: What Google keeps.
        operations: What is on its way.
    """

    def __init__(self, state: GoogleState, operations: Operations) -> None:
        self.routers: dict[tuple[str, str, str], Resource] = {}
        self._state = state
        self._works = operations
        self._shown: dict[str, Resource] = {}

    def routes(self) -> list[Route]:
        region, zone = rf"{_ROOT}/regions/([^/]+)", rf"{_ROOT}/zones/([^/]+)"
        return [
            self._route("GET", _ROOT, "projects.get", self._project),
            self._route("GET", region, "regions.get", self._region),
            self._route("GET", rf"{zone}/acceleratorTypes", "acceleratorTypes.list", self._gpus),
            self._route("GET", rf"{zone}/machineTypes/([^/]+)", "machineTypes.get", self._machine),
            self._route("GET", rf"{zone}/reservations/([^/]+)", "reservations.get", self._reserved),
            self._route("GET", rf"{_ROOT}/global/networks/([^/]+)", "networks.get", self._network),
            self._route("GET", rf"{region}/routers", "routers.list", self._list),
            self._route("POST", rf"{region}/routers", "routers.insert", self._insert),
            self._route("PATCH", rf"{region}/routers/([^/]+)", "routers.patch", self._patch),
            self._route("DELETE", rf"{region}/routers/([^/]+)", "routers.delete", self._delete),
            self._route(
                "GET", rf"{region}/operations/([^/]+)", "regionOperations.get", self._operation
            ),
        ]

    @staticmethod
    def _route(method: str, path: str, name: str, act: Callable[[Asked], Resource]) -> Route:
        return Route(method=method, path=path, name=name, api="compute", act=act)

    # Looking

    def _project(self, asked: Asked) -> Resource:
        project = self._allowed(asked, "compute.projects.get")
        everywhere = {"CPUS_ALL_REGIONS": 72.0, "GPUS_ALL_REGIONS": 8.0, "NETWORKS": 5.0}
        everywhere |= {k: v for k, v in project.limits.items() if k in everywhere}
        return {"name": project.id, "quotas": _quotas(everywhere, project.used)}

    def _region(self, asked: Asked) -> Resource:
        project, region = self._allowed(asked, "compute.regions.get"), asked.parts[1]
        if region not in REGIONS:
            raise _not_found(f"projects/{project.id}/regions/{region}")
        zones = [f"{_url(project)}/zones/{zone}" for zone in ZONES if zone.startswith(region)]
        quotas = _quotas(project.limits, project.used)
        return {"name": region, "status": "UP", "zones": zones, "quotas": quotas}

    def _gpus(self, asked: Asked) -> Resource:
        self._allowed(asked, "compute.acceleratorTypes.list")
        zone = asked.parts[1]
        names = sorted({str(row.label) for row in list_accelerators() if row.category == "gpu"})
        return {
            "items": [
                {"name": name, "zone": zone, "maximumCardsPerInstance": 8}
                for name in names
                if self._state.has(zone, name)
            ]
        }

    def _machine(self, asked: Asked) -> Resource:
        project = self._allowed(asked, "compute.machineTypes.get")
        _, zone, name = asked.parts
        if not is_machine_type(name) or zone not in ZONES or not self._state.has(zone, name):
            raise _not_found(f"projects/{project.id}/zones/{zone}/machineTypes/{name}")
        cpus, memory_mb = cpus_and_memory_mb(name)
        return {"name": name, "zone": zone, "guestCpus": cpus, "memoryMb": memory_mb}

    def _reserved(self, asked: Asked) -> Resource:
        project = self._allowed(asked, "compute.reservations.get")
        _, zone, name = asked.parts
        if (zone, name) not in self._state.reservations:
            raise _not_found(f"projects/{project.id}/zones/{zone}/reservations/{name}")
        return {"name": name, "status": "READY", **self._state.reservations[zone, name]}

    def _network(self, asked: Asked) -> Resource:
        project, name = self._allowed(asked, "compute.networks.get"), asked.parts[1]
        if name not in project.networks:
            raise _not_found(f"projects/{project.id}/global/networks/{name}")
        return {"selfLink": f"{_url(project)}/global/networks/{name}", **project.networks[name]}

    # Routers

    def _list(self, asked: Asked) -> Resource:
        project, region = self._allowed(asked, "compute.routers.list"), asked.parts[1]
        found = [r for key, r in self.routers.items() if key[:2] == (project.id, region)]
        return {"items": found} if found else {}

    def _insert(self, asked: Asked) -> Resource:
        project, region = self._allowed(asked, "compute.routers.create"), asked.parts[1]
        router = _parsed(asked.body)
        name = router.get("name", "")
        if not _NAME.fullmatch(name):
            raise invalid(f"Invalid value for field 'resource.name': '{name}'.")
        if (project.id, region, name) in self.routers:
            raise taken(f"The resource '{_path(project, region, name)}' already exists")
        self._check(project, region, name, router)
        mine = sum(key[:2] == (project.id, region) for key in self.routers)
        if mine >= project.limits["ROUTERS"]:
            raise _quota("ROUTERS", project.limits["ROUTERS"], region)

        def finish() -> None:
            self.routers[project.id, region, name] = {
                "id": self._state.new_number(),
                "selfLink": f"{_url(project)}/regions/{region}/routers/{name}",
                "region": f"{_url(project)}/regions/{region}",
                **router,
            }

        return self._begin("insert", project, region, name, finish)

    def _patch(self, asked: Asked) -> Resource:
        project, region = self._allowed(asked, "compute.routers.update"), asked.parts[1]
        key, router = self._router(asked)
        change = _parsed(asked.body)
        self._check(project, region, key[2], {**router, **change})
        return self._begin("patch", project, region, key[2], lambda: router.update(change))

    def _delete(self, asked: Asked) -> Resource:
        project, region = self._allowed(asked, "compute.routers.delete"), asked.parts[1]
        key, _ = self._router(asked)
        return self._begin("delete", project, region, key[2], lambda: self.routers.pop(key, None))

    def _router(self, asked: Asked) -> tuple[tuple[str, str, str], Resource]:
        project = self._state.project(asked.parts[0])
        key = (project.id, asked.parts[1], asked.parts[2])
        if key not in self.routers:
            raise _not_found(_path(project, *key[1:]))
        return key, self.routers[key]

    def _check(self, project: Project, region: str, name: str, router: Resource) -> None:
        network = str(router.get("network", "")).rpartition("/")[2]
        if network not in project.networks:
            raise _not_found(f"projects/{project.id}/global/networks/{network}")
        for nat in router.get("nats", ()):
            if not _NAME.fullmatch(nat.get("name", "")):
                raise invalid("Invalid value for field 'resource.nats[0].name'.")
            if nat.get("sourceSubnetworkIpRangesToNat") not in _RANGES:
                raise invalid("sourceSubnetworkIpRangesToNat is required.")
            if nat.get("natIpAllocateOption") not in ("AUTO_ONLY", "MANUAL_ONLY"):
                raise invalid("natIpAllocateOption is required.")
        if router.get("nats") and self._has_other_nat(project, region, name, network):
            raise invalid(f"A Cloud NAT for all subnetworks of network '{network}' exists already.")

    def _has_other_nat(self, project: Project, region: str, name: str, network: str) -> bool:
        """Whether another router's Cloud NAT serves the network's subnetworks.

        https://cloud.google.com/nat/docs/nat-product-interactions
        """
        return any(
            router.get("nats") and str(router["network"]).rpartition("/")[2] == network
            for key, router in self.routers.items()
            if key[:2] == (project.id, region) and key[2] != name
        )

    # Operations

    def _begin(
        self, kind: str, project: Project, region: str, name: str, finish: Callable[[], Any]
    ) -> Resource:
        where = f"{_url(project)}/regions/{region}"
        work = self._works.begin(f"compute/{project.id}/{region}/operation-{{n}}", finish)
        self._shown[work.name] = {
            "kind": "compute#operation",
            "name": work.name.rpartition("/")[2],
            "operationType": kind,
            "region": where,
            "targetLink": f"{where}/routers/{name}",
        }
        return self._operation_shown(work)

    def _operation(self, asked: Asked) -> Resource:
        self._allowed(asked, "compute.regionOperations.get")
        project, region, name = asked.parts
        work = self._works.find(f"compute/{project}/{region}/{name}")
        work.look()
        return self._operation_shown(work)

    def _operation_shown(self, work: Work) -> Resource:
        shown = dict(self._shown[work.name])
        shown["status"] = "DONE" if work.done else "RUNNING"
        shown["progress"] = 100 if work.done else 100 * work.looks // max(work.steps, 1)
        if work.error:
            shown["httpErrorStatusCode"] = work.error.http
            error = {"code": work.error.code.name, "message": str(work.error)}
            shown["error"] = {"errors": [error]}
        return shown

    def _allowed(self, asked: Asked, permission: str) -> Project:
        project = self._state.project(asked.parts[0])
        caller: Caller = asked.caller
        if not self._state.allows(caller, permission, project.resource):
            raise GoogleRefusal(
                Code.PERMISSION_DENIED,
                f"Required '{permission}' permission for '{project.resource}'",
                rest_reason="forbidden",
            )
        return project


def _parsed(body: Resource) -> Resource:
    """Return a router as it is kept; one with unknown fields is refused."""
    router = _types().Router
    message = router.pb(router())
    try:
        json_format.ParseDict(body, message)
    except json_format.ParseError as error:
        raise invalid(f"Invalid JSON payload received. {error}") from error
    kept: Resource = json_format.MessageToDict(message)
    return kept


@functools.cache
def _types() -> Any:
    """Return the client's messages without its services, which take three seconds to import."""
    package = importlib.util.find_spec("google.cloud.compute_v1")
    assert package is not None
    assert package.submodule_search_locations
    path = Path(package.submodule_search_locations[0]) / "types" / "compute.py"
    spec = importlib.util.spec_from_file_location("compute_v1_types", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where proto-plus looks for it
    spec.loader.exec_module(module)
    return module


def _quotas(limits: dict[str, float], used: dict[str, float]) -> list[Resource]:
    return [
        {"metric": metric, "limit": limit, "usage": used.get(metric, 0.0)}
        for metric, limit in sorted(limits.items())
    ]


def _quota(metric: str, limit: float, region: str) -> GoogleRefusal:
    return GoogleRefusal(
        Code.PERMISSION_DENIED,
        f"Quota '{metric}' exceeded.  Limit: {limit:.1f} in region {region}.",
        rest_reason="quotaExceeded",
    )


def _not_found(path: str) -> GoogleRefusal:
    return missing(f"The resource '{path}' was not found")


def _path(project: Project, region: str, name: str) -> str:
    return f"projects/{project.id}/regions/{region}/routers/{name}"


def _url(project: Project) -> str:
    return f"https://www.googleapis.com/compute/v1/projects/{project.id}"
