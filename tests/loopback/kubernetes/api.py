"""The HTTP face of the cluster."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from aiohttp import web

from loopback.kubernetes.access import Access
from loopback.kubernetes.admission import Admission
from loopback.kubernetes.applying import APPLY, Patches
from loopback.kubernetes.errors import ApiError, not_found
from loopback.kubernetes.exec import PROTOCOLS, check_command, execute
from loopback.kubernetes.jobs import delete_job, mark_deleted
from loopback.kubernetes.kubelet import Kubelet
from loopback.kubernetes.port_forward import check_pod, forward
from loopback.kubernetes.selectors import Matches, field_selector, label_selector
from loopback.kubernetes.store import KINDS, Change, Kind, Object, Store

LOG_POLL_SECONDS = 0.05
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
GROUPS = tuple(sorted({kind.group for kind in KINDS.values() if kind.group}))
VERSIONS = tuple(sorted({kind.api_version.rpartition("/")[2] for kind in KINDS.values()}))
ROOT = "/{root:api|" + "|".join(f"apis/{group}" for group in GROUPS) + "}"
ROOT_OF_VERSION = f"{ROOT}/{{version:{'|'.join(VERSIONS)}}}"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Api:
    """Serves the objects of a cluster to Kubernetes clients."""

    def __init__(
        self, store: Store, admission: Admission, access: Access, kubelet: Kubelet
    ) -> None:
        self._store = store
        self._admission = admission
        self._access = access
        self._kubelet = kubelet
        self._patches = Patches(store, admission)
        self.requests: list[str] = []
        self.pod_ports: dict[int, int] = {}
        self.exec_protocols: Sequence[str] = PROTOCOLS
        self.is_stopping = False
        self.starts = 0

    def application(self) -> web.Application:
        """Return the web application."""
        app = web.Application(middlewares=[self._answer_errors])
        app.router.add_get("/version", self._version)
        app.router.add_get("/api", self._core_versions)
        app.router.add_get("/apis", self._groups)
        app.router.add_get(f"{ROOT}/v1", self._resources)
        app.router.add_post(REVIEWS, self._review)
        for prefix in (ROOT_OF_VERSION, f"{ROOT_OF_VERSION}/namespaces/{{ns}}"):
            app.router.add_get(f"{prefix}/{{plural}}", self._list_or_watch)
            app.router.add_post(f"{prefix}/{{plural}}", self._create)
            app.router.add_delete(f"{prefix}/{{plural}}", self._delete_all)
            one = f"{prefix}/{{plural}}/{{name}}"
            for path in (one, f"{one}/status"):
                app.router.add_get(path, self._get)
                app.router.add_put(path, self._replace)
                app.router.add_patch(path, self._patch)
            app.router.add_delete(one, self._delete)
            app.router.add_get(f"{one}/log", self._log)
            app.router.add_get(f"{one}/portforward", self._forward)
            app.router.add_get(f"{one}/exec", self._exec)
        return app

    @web.middleware
    async def _answer_errors(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.requests.append(f"{request.method} {request.path_qs}")
        if self.is_stopping and request.transport is not None:
            request.transport.abort()
        try:
            return await handler(request)
        except ApiError as error:
            return web.json_response(error.status(), status=error.code)

    # Discovery

    async def _version(self, request: web.Request) -> web.Response:
        self._access.user(request.headers.get("Authorization", ""))
        major, minor = self._admission.version.split(".")[:2]
        return web.json_response(
            {"major": major, "minor": minor, "gitVersion": f"v{major}.{minor}.0"}
        )

    async def _core_versions(self, request: web.Request) -> web.Response:
        return web.json_response({"kind": "APIVersions", "versions": ["v1"]})

    async def _groups(self, request: web.Request) -> web.Response:
        groups = []
        for name in GROUPS:
            version = {"groupVersion": f"{name}/v1", "version": "v1"}
            groups.append({"name": name, "versions": [version], "preferredVersion": version})
        return web.json_response({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})

    async def _resources(self, request: web.Request) -> web.Response:
        version = f"{_group(request)}/v1".lstrip("/")
        verbs = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
        found = [
            {
                "name": kind.plural,
                "singularName": kind.name.lower(),
                "kind": kind.name,
                "namespaced": kind.namespaced,
                "verbs": verbs,
            }
            for kind in KINDS.values()
            if kind.api_version == version
        ]
        return web.json_response(
            {
                "kind": "APIResourceList",
                "apiVersion": "v1",
                "groupVersion": version,
                "resources": found,
            }
        )

    async def _review(self, request: web.Request) -> web.Response:
        user = self._access.user(request.headers.get("Authorization", ""))
        body = await request.json()
        wanted = body["spec"]["resourceAttributes"]
        resource = "/".join(filter(None, (wanted["resource"], wanted.get("subresource"))))
        allowed = self._access.allows(user, wanted["verb"], resource, wanted.get("namespace", ""))
        return web.json_response({**body, "status": {"allowed": allowed}}, status=201)

    # Objects

    async def _get(self, request: web.Request) -> web.Response:
        plural, namespace = self._allowed(request, "get")
        return web.json_response(self._store.get(plural, namespace, request.match_info["name"]))

    async def _create(self, request: web.Request) -> web.Response:
        plural, namespace = self._allowed(request, "create")
        asked = await request.json()
        body = self._admission.check(plural, namespace, asked)
        answer = web.json_response(self._created(request, plural, namespace, body), status=201)
        for warning in self._admission.warnings(plural, namespace, body):
            escaped = warning.replace("\\", "\\\\").replace('"', '\\"')
            answer.headers.add("Warning", f'299 - "{escaped}"')
        return answer

    def _created(self, request: web.Request, plural: str, namespace: str, body: Object) -> Object:
        if request.query.get("dryRun"):
            return body
        made = self._store.create(plural, namespace, body)
        self._furnish(plural, made["metadata"]["name"])
        return made

    async def _replace(self, request: web.Request) -> web.Response:
        plural, namespace = self._allowed(request, "update")
        body = await request.json()
        name = request.match_info["name"]

        def replace(item: Object) -> None:
            version = body["metadata"].get("resourceVersion")
            if version not in (None, item["metadata"]["resourceVersion"]):
                raise ApiError(409, f'Operation cannot be fulfilled on {plural} "{name}"')
            kept = item["metadata"]
            item.clear()
            item.update({**body, "metadata": {**kept, **body["metadata"]}})

        who = request.query.get("fieldManager", "unknown")
        return web.json_response(self._patches.update(plural, namespace, name, replace, who))

    async def _patch(self, request: web.Request) -> web.Response:
        plural, namespace = self._allowed(request, "patch")
        text, name = await request.text(), request.match_info["name"]
        if request.content_type != APPLY:
            patched = self._patches.patch(plural, namespace, name, text, request.query)
            return web.json_response(patched)
        status, item = self._patches.apply(plural, namespace, name, text, request.query)
        if status == 201 and not request.query.get("dryRun"):
            self._furnish(plural, name)
        item["metadata"]["managedFields"] = self._managers(item)
        return web.json_response(item, status=status)

    def _managers(self, item: Object) -> list[Object]:
        """Return who set which fields of an object; nobody of one that was only tried."""
        if "uid" not in item["metadata"]:
            return []
        return self._store.owners(item).entries(item["apiVersion"])

    def _furnish(self, plural: str, name: str) -> None:
        """Give a new namespace what controllers give it."""
        if plural == "namespaces":
            self._store.create("serviceaccounts", name, {"metadata": {"name": "default"}})

    async def _delete(self, request: web.Request) -> web.Response:
        plural, namespace = self._allowed(request, "delete")
        item = self._store.get(plural, namespace, request.match_info["name"])
        self._delete_one(plural, item, await _delete_options(request))
        return web.json_response({"kind": "Status", "apiVersion": "v1", "status": "Success"})

    async def _delete_all(self, request: web.Request) -> web.Response:
        plural, namespace = self._allowed(request, "deletecollection")
        options = await _delete_options(request)
        for item in self._selected(request, plural, namespace):
            self._delete_one(plural, item, options)
        return web.json_response({"kind": "Status", "apiVersion": "v1", "status": "Success"})

    def _delete_one(self, plural: str, item: Object, options: Object) -> None:
        grace = options.get("gracePeriodSeconds")
        if plural == "jobs":
            # Of Jobs alone the default is still to leave their pods alone.
            delete_job(self._store, item, options.get("propagationPolicy") or "Orphan")
        elif plural == "pods":
            mark_deleted(self._store, item, None if grace is None else float(grace))
        else:
            metadata = item["metadata"]
            self._store.remove(plural, metadata.get("namespace", ""), metadata["name"])
            self._clear_up(plural, item)

    def _clear_up(self, plural: str, item: Object) -> None:
        """Remove what goes with an object: a namespace's content, a workload's pods."""
        if plural == "namespaces":
            place = item["metadata"]["name"]
            for inner, kind in KINDS.items():
                for each in list(self._store.list(inner, place)) if kind.namespaced else ():
                    self._delete_one(inner, each, {"propagationPolicy": "Background"})
        elif plural in ("deployments", "statefulsets"):
            for pod in self._store.owned("pods", item):
                mark_deleted(self._store, pod)

    # Lists and watches

    async def _list_or_watch(self, request: web.Request) -> web.StreamResponse:
        watch = _is_set(request, "watch")
        plural, namespace = self._allowed(request, "watch" if watch else "list")
        if watch:
            return await self._watch(request, plural, namespace)
        kind = KINDS[plural]
        return web.json_response(
            {
                "kind": f"{kind.name}List",
                "apiVersion": kind.api_version,
                "metadata": {"resourceVersion": str(self._store.version)},
                "items": self._selected(request, plural, namespace),
            }
        )

    def _selected(self, request: web.Request, plural: str, namespace: str) -> list[Object]:
        matches = _selection(request)
        items = self._store.list(plural, namespace or None)
        return [item for item in items if matches(item)]

    async def _watch(self, request: web.Request, plural: str, namespace: str) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        matches = _selection(request)
        try:
            async with asyncio.timeout(float(request.query.get("timeoutSeconds", "3600"))):
                starts = self.starts
                async for change in self._changes(request.query.get("resourceVersion")):
                    # A server that is being stopped holds watches open, and tells nothing more.
                    while self.is_stopping:
                        await asyncio.sleep(LOG_POLL_SECONDS)
                    if self.starts > starts:
                        break
                    inside = namespace in ("", change.object["metadata"].get("namespace"))
                    if change.plural == plural and inside and matches(change.object):
                        line = json.dumps({"type": change.type, "object": change.object})
                        await response.write(line.encode() + b"\n")
        except (TimeoutError, ConnectionResetError):
            pass
        return response

    async def _changes(self, since: str | None) -> AsyncIterator[Change]:
        """Yield changes after a version, then those to come; "0" and None begin with all."""
        with self._store.watching() as queue:
            if since in (None, "", "0"):
                for plural in KINDS:
                    for item in self._store.list(plural):
                        yield Change(version=0, type="ADDED", plural=plural, object=item)
            else:
                for change in [c for c in self._store.history if c.version > int(since or 0)]:
                    yield change
            while True:
                yield await queue.get()

    # Logs

    async def _log(self, request: web.Request) -> web.StreamResponse:
        namespace, name = request.match_info["ns"], request.match_info["name"]
        user = self._access.user(request.headers.get("Authorization", ""))
        self._access.check(user, "get", "pods/log", "", namespace)
        pod = self._store.get("pods", namespace, name)
        if self._kubelet.is_away:
            raise ApiError(500, "dial tcp 10.0.0.2:10250: connect: connection refused")
        log = self._kubelet.log(pod)
        if not log.file.exists():
            container = pod["spec"]["containers"][0]["name"]
            raise ApiError(400, f'container "{container}" in pod "{name}" is waiting to start')
        count = len(log.lines(ended=self._has_ended(pod)))
        first = log.first_kept(request.query.get("sinceTime", ""))
        if tail := request.query.get("tailLines"):
            first = max(first, count - int(tail))
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        follows = _is_set(request, "follow")
        with_times = _is_set(request, "timestamps")
        await self._print(response, pod, first, follows=follows, with_times=with_times)
        return response

    async def _exec(self, request: web.Request) -> web.StreamResponse:
        pod = self._reached(request, "pods/exec")
        asked = check_command(request, pod)
        container = self._kubelet.container(pod)
        return await execute(request, asked, container, self.exec_protocols)

    def _reached(self, request: web.Request, what: str) -> Object:
        """Return the pod that a websocket leads to, or refuse."""
        namespace, name = request.match_info["ns"], request.match_info["name"]
        user = self._access.user(request.headers.get("Authorization", ""))
        # Of websockets, Kubernetes 1.35 asks for the second as well.
        for verb in ("get", "create"):
            self._access.check(user, verb, what, "", namespace)
        return self._store.get("pods", namespace, name)

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        pod = self._reached(request, "pods/portforward")
        return await forward(request, pod, check_pod(request, pod), self.pod_ports)

    async def _print(
        self,
        response: web.StreamResponse,
        pod: Object,
        position: int,
        *,
        follows: bool,
        with_times: bool,
    ) -> None:
        log, starts = self._kubelet.log(pod), self._kubelet.starts
        # When a kubelet stops, what it answers ends as if it were complete.
        while self._kubelet.starts == starts:
            ended = self._has_ended(pod)
            lines = log.lines(ended=ended)[position:]
            position += len(lines)
            times = (f"{line.stamp} ".encode() if with_times else b"" for line in lines)
            text = b"".join(time + line.text for time, line in zip(times, lines, strict=True))
            if text:
                await response.write(text)
            if ended or not follows:
                return
            await asyncio.sleep(LOG_POLL_SECONDS)

    def _has_ended(self, pod: Object) -> bool:
        metadata = pod["metadata"]
        try:
            current = self._store.get("pods", metadata["namespace"], metadata["name"])
        except ApiError:
            return True
        return current["status"].get("phase") in ("Succeeded", "Failed")

    def _allowed(self, request: web.Request, verb: str) -> tuple[str, str]:
        """Check who asks, and return the plural and the namespace asked about."""
        user = self._access.user(request.headers.get("Authorization", ""))
        plural, namespace = request.match_info["plural"], request.match_info.get("ns", "")
        group = _group(request)
        kind = KINDS.get(plural)
        version = f"{group}/{request.match_info['version']}".lstrip("/")
        if kind is None or kind.api_version != version or not self._is_served(kind):
            raise not_found(plural, request.match_info.get("name", ""))
        self._access.check(user, verb, plural, group, namespace)
        return plural, namespace

    def _is_served(self, kind: Kind) -> bool:
        """Whether a kind is the API server's own, or somebody has defined it."""
        definitions = self._store.list("customresourcedefinitions") if kind.custom else ()
        names = {each["metadata"]["name"] for each in definitions}
        return not kind.custom or f"{kind.plural}.{kind.group}" in names


def _group(request: web.Request) -> str:
    """Return the API group that a path is of; empty for the core's."""
    return str(request.match_info["root"]).removeprefix("api").removeprefix("s/")


def _selection(request: web.Request) -> Matches:
    labels = label_selector(request.query.get("labelSelector", ""))
    fields = field_selector(request.query.get("fieldSelector", ""))
    return lambda item: labels(item) and fields(item)


def _is_set(request: web.Request, name: str) -> bool:
    return request.query.get(name, "").lower() in ("true", "1")


async def _delete_options(request: web.Request) -> dict[str, Any]:
    body = await request.text()
    options: dict[str, Any] = json.loads(body) if body else {}
    return {**options, **request.query}
