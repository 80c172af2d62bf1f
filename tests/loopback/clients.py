"""The product's clients, pointed at the loopback cloud.

As a program, `python -m loopback.clients` asks for one image like any client would and prints
its digest, so that tests can have many clients and kill them.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from kinetic_flows.clients.google.storage import GoogleStore
from kinetic_flows.clients.registry.credentials import CredentialSource, GoogleRegistryCredentials
from kinetic_flows.clients.registry.images import OciRegistry
from kinetic_flows.clients.registry.repository import RegistryWriter
from kinetic_flows.core.artifact_store import ArtifactStore
from kinetic_flows.core.environment import EnvironmentSpec, ImageRequest
from kinetic_flows.core.job import sha256_hex
from kinetic_flows.core.job_parts import Sha256
from kinetic_flows.core.settings.cloud import Builder
from kinetic_flows.images.bases import read_base_inputs
from kinetic_flows.platforms.gke.builds.build import BuildOptions
from kinetic_flows.platforms.gke.builds.builder import ClusterBuilder
from kinetic_flows.platforms.gke.builds.cloud_build import CloudBuild
from kinetic_flows.platforms.gke.builds.making import BuilderSettings
from kinetic_flows.platforms.gke.builds.routes import Assembler
from loopback.lifted_python import MINOR

REGISTRY_HOST = "us-docker.pkg.dev"
PYTHON = MINOR

INICONFIG_LOCK = """\
# kinetic lock 1
iniconfig==2.1.0 \\
    --hash=sha256:9deba5723312380e77435581c6bf4935c94cbfab9b1ed33ef8d238ea168eb760
"""


@dataclass(frozen=True, kw_only=True)
class CloudAddress:
    """Where the loopback cloud is, and what of it one test uses."""

    storage_url: str
    registry_url: str
    build_endpoint: str
    access_token: str
    project: str
    repository: str
    jobs_bucket: str
    builds_bucket: str
    home: str
    hub_url: str = ""
    builder: Builder = "cloud-build"
    base_repository: str | None = None
    timeout_seconds: int = 600
    term_seconds: float = 3.0
    poll_seconds: float = 0.1


def registry_of(cloud: CloudAddress, credentials: CredentialSource | None = None) -> OciRegistry:
    """A registry client that asks with an access token, or with other credentials."""
    return OciRegistry(
        credentials=credentials or credentials_of(cloud), endpoints=endpoints_of(cloud)
    )


def credentials_of(cloud: CloudAddress) -> CredentialSource:
    """The access token of this machine's user."""
    return GoogleRegistryCredentials(token=lambda: cloud.access_token)


def endpoints_of(cloud: CloudAddress) -> dict[str, str]:
    """Where the registries are that Google and Docker have."""
    return {REGISTRY_HOST: cloud.registry_url, "docker.io": cloud.hub_url or cloud.registry_url}


def assembler_of(
    cloud: CloudAddress, store: ArtifactStore, credentials: CredentialSource | None = None
) -> Assembler:
    """What assembles images as this machine's user."""
    return Assembler(
        registry=RegistryWriter(
            credentials=credentials or credentials_of(cloud), endpoints=endpoints_of(cloud)
        ),
        home=Path(cloud.home),
        environ=os.environ,
        builder=cloud.builder,
        store=store,
    )


@contextmanager
def builder_of(
    cloud: CloudAddress, credentials: CredentialSource | None = None, **changes: Any
) -> Iterator[ClusterBuilder]:
    """A builder for the test's repository, its connections closed afterwards.

    Args:
        cloud: Where everything is.
        credentials: Those for registries; None for an access token.
        changes: Settings of the builder that are not the usual.
    """
    with (
        closing(
            CloudBuild(cloud.project, endpoint=cloud.build_endpoint, call_seconds=20)
        ) as builds,
        closing(GoogleStore(cloud.jobs_bucket, endpoint=cloud.storage_url)) as store,
        closing(
            GoogleStore(cloud.builds_bucket, prefix="b", endpoint=cloud.storage_url)
        ) as sources,
        closing(registry_of(cloud, credentials)) as registry,
    ):
        settings = BuilderSettings(
            repository=cloud.repository,
            base_repository=cloud.base_repository,
            version="0.1.0",
            options=BuildOptions(timeout_seconds=cloud.timeout_seconds),
            poll_seconds=cloud.poll_seconds,
            term_seconds=cloud.term_seconds,
        )
        yield ClusterBuilder(
            builds=builds,
            store=store,
            build_store=sources,
            registry=registry,
            assembler=assembler_of(cloud, store, credentials),
            settings=replace(settings, **changes),
        )


def environment_named(name: str, lock: str = INICONFIG_LOCK) -> EnvironmentSpec:
    """An environment with one small package; equal names give equal hashes."""
    return EnvironmentSpec(
        category="cpu",
        python=PYTHON,
        platform="x86_64-manylinux_2_28",
        base_identity=read_base_inputs("cpu", PYTHON).identity,
        lock=lock,
        packages=(),
        wheels=(),
        dependency_hash=sha256_hex(name.encode()),
    )


def request_for(cloud: CloudAddress, environment: EnvironmentSpec) -> ImageRequest:
    """The request that goes with an environment."""
    digest: Sha256 = environment.dependency_hash
    reference = f"{cloud.repository}/app:cpu-{digest[:12]}"
    return ImageRequest(reference=reference, mode="bundled", dependency_hash=digest)


def arguments_for(cloud: CloudAddress, name: str, **changes: str) -> list[str]:
    """The command line of a client that asks for the environment of a name, or a changed one."""
    module = [sys.executable, "-m", "loopback.clients"]
    return [*module, json.dumps(asdict(cloud)), name, json.dumps(changes)]


def main(address: str, name: str, changes: str) -> None:
    """Ask for one image; print the build's output and, last, the digest."""
    cloud = CloudAddress(**json.loads(address))
    environment = replace(environment_named(name), **json.loads(changes))
    with builder_of(cloud) as builder:
        image = builder.build(
            request_for(cloud, environment), environment, lambda line: print(line, flush=True)
        )
    print(image.digest, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
