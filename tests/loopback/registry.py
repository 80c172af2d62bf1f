"""An image registry: Debian's docker-registry, with the token flows of the big ones in front.

The front answers as Artifact Registry and Docker Hub do where they differ from docker-registry:
who may ask, and what a missing repository looks like.
"""

from __future__ import annotations

import base64
import json
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal
from urllib.request import urlopen
from uuid import uuid4

from loopback.proxy import forward_to
from loopback.registry_manners import Manners, refusal
from loopback.storage import free_port
from loopback.tools import find_tool
from loopback.wire import Request, Response, WireServer, wait_until

Flavour = Literal["artifact-registry", "docker-hub"]

_CONFIG = """\
version: 0.1
log: {{level: warn, accesslog: {{disabled: true}}}}
storage:
  cache: {{blobdescriptor: inmemory}}
  filesystem: {{rootdirectory: {directory}}}
  delete: {{enabled: {deletes}}}
http:
  addr: 127.0.0.1:{port}
  relativeurls: true
"""


class DockerRegistry:
    """docker-registry on a free port, open to everyone.

    Args:
        directory: Where it keeps its images and its configuration.
        deletes: Whether it deletes what it is asked to.
    """

    def __init__(self, directory: Path, *, deletes: bool = True) -> None:
        self.directory = directory
        self._deletes = deletes
        self.data = directory / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.host = f"127.0.0.1:{self.port}"

    def start(self) -> DockerRegistry:
        self.directory.mkdir(parents=True, exist_ok=True)
        config = self.directory / "config.yml"
        deletes = str(self._deletes).lower()
        text = _CONFIG.format(directory=self.data, port=self.port, deletes=deletes)
        config.write_text(text)
        with (self.directory / "registry.log").open("wb") as log:
            self._process = subprocess.Popen(
                [find_tool("docker-registry"), "serve", str(config)],
                env={"PATH": "/usr/bin:/bin"},  # REGISTRY_* variables would change its settings
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_until(self._answers, 15, "the start of docker-registry")
        return self

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _answers(self) -> bool:
        try:
            urlopen(f"{self.url}/v2/", timeout=2).close()
        except OSError:
            return False
        return True


class RegistryFront:
    """A registry with a token server, as `flavour` has it.

    Attributes:
        accounts: User names and passwords that are let in.
        tokens: Access tokens of Google's that are let in, as Artifact Registry lets them.
        repositories: Artifact Registry's repositories, as `project/repository`; elsewhere the
            images that exist publicly. A repository that is not here does not exist.
        private: Repositories that only accounts may read.
        read_only: Accounts that may not push.
        members: Organisations that accounts may push to, beside their own namespaces.
        token_life_seconds: How long tokens are good for.
        manners: How the registry behind it takes what it is given.
        server: Where requests can be seen and answers spoiled.

    Args:
        upstream: URL of the registry behind it.
        flavour: Whose manners it has.
    """

    def __init__(self, upstream: str, flavour: Flavour = "artifact-registry") -> None:
        self.accounts: dict[str, str] = {}
        self.tokens: Mapping[str, str] = {}
        self.repositories: set[str] = set()
        self.private: set[str] = set()
        self.read_only: set[str] = set()
        self.members: dict[str, set[str]] = {}
        self.token_life_seconds = 300.0
        self._flavour = flavour
        self.manners = Manners(forward_to(upstream), googles=flavour == "artifact-registry")
        self._forward = self.manners.answer
        self._tokens: dict[str, tuple[float, str]] = {}
        self._lock = threading.Lock()
        self.server = WireServer(self._answer)
        self.url = self.server.url
        self.host = f"127.0.0.1:{self.server.port}"

    def start(self) -> RegistryFront:
        self.server.start()
        return self

    def stop(self) -> None:
        self.server.stop()

    def expire_tokens(self) -> None:
        """Make every token that was given out worthless, before its time."""
        with self._lock:
            self._tokens.clear()

    def _answer(self, request: Request) -> Response:
        if request.path == "/token":
            return self._give_token(request)
        account = self._account(request)
        if account is None:
            return self._challenge(request, "authentication required")
        segments = request.segments[1:]
        if len(segments) < 3:
            return self._forward(request)
        return self._about_repository(request, "/".join(segments), account)

    def _about_repository(self, request: Request, path: str, account: str) -> Response:
        repository = self._repository_of(path)
        reads = request.method in ("GET", "HEAD")
        if self._flavour == "docker-hub":
            return self._about_hub(request, repository, account, reads=reads)
        if repository not in self.repositories:
            return refusal(404, "NAME_UNKNOWN", f'Repository "{repository}" not found')
        if not account and (repository in self.private or not reads):
            return refusal(403, "DENIED", "Permission denied")
        if not reads and account in self.read_only:
            needed = '"artifactregistry.repositories.uploadArtifacts"'
            return refusal(403, "DENIED", f"Permission {needed} denied on resource {repository}")
        return _name_known(self._forward(request))

    def _about_hub(
        self, request: Request, repository: str, account: str, *, reads: bool
    ) -> Response:
        """Answer as Docker Hub does, which makes a repository when its owner pushes to it."""
        namespace = repository.partition("/")[0]
        owns = bool(account) and namespace in {account, *self.members.get(account, ())}
        exists = repository in self.repositories
        readable = exists and (repository not in self.private or owns)
        writable = owns and account not in self.read_only
        if not (writable or (reads and (readable or owns))):
            return self._challenge(request, "insufficient_scope")
        if not reads:
            self.repositories.add(repository)
        return _name_known(self._forward(request))

    def _repository_of(self, path: str) -> str:
        """Return the part of a path that names what has to be created first."""
        return "/".join(path.split("/")[:2])

    def _give_token(self, request: Request) -> Response:
        account = self._check_login(request.headers.get("Authorization", ""))
        if account is None:
            return refusal(401, "UNAUTHORIZED", "incorrect username or password")
        text = uuid4().hex
        with self._lock:
            self._tokens[text] = (time.monotonic() + self.token_life_seconds, account)
        content = {"token": text, "expires_in": int(self.token_life_seconds)}
        return Response(body=json.dumps(content).encode())

    def _check_login(self, header: str) -> str | None:
        """Return which account asks: empty for nobody, None for an impostor."""
        if not header:
            return ""
        login = base64.b64decode(header.removeprefix("Basic ")).decode()
        name, _, password = login.partition(":")
        is_token = name == "oauth2accesstoken" and password in self.tokens
        return name if is_token or self.accounts.get(name) == password else None

    def _account(self, request: Request) -> str | None:
        """Return whose token a request carries, empty for nobody's; None for none that is good."""
        text = request.headers.get("Authorization", "").removeprefix("Bearer ")
        with self._lock:
            expires, account = self._tokens.get(text, (0.0, ""))
        return account if time.monotonic() < expires else None

    def _challenge(self, request: Request, why: str) -> Response:
        segments = request.segments
        name = "/".join(segments[1:-2])
        scope = f',scope="repository:{name}:pull,push"' if name else ""
        header = f'Bearer realm="{self.url}/token",service="{self.host}"{scope}'
        if why == "insufficient_scope":
            header += ',error="insufficient_scope"'
        return refusal(401, "UNAUTHORIZED", why, {"WWW-Authenticate": header})


def _name_known(response: Response) -> Response:
    """Let a repository that was created but never pushed to lack manifests, not its name."""
    if response.status == 404 and b"NAME_UNKNOWN" in response.body:
        return replace(response, body=response.body.replace(b"NAME_UNKNOWN", b"MANIFEST_UNKNOWN"))
    return response
