"""What is made around a cluster: APIs, accounts, buckets, a repository, a network, and roles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from kinetic_flows.clients.google.lifecycle import Rule
from kinetic_flows.core.settings import cloud_names
from kinetic_flows.platforms.gke.setup.model import Resource, Wanted
from kinetic_flows.platforms.gke.setup.project import grants
from kinetic_flows.platforms.gke.setup.project.accounts import Purpose, ServiceAccount
from kinetic_flows.platforms.gke.setup.project.buckets import Bucket, builds_rules, jobs_rules
from kinetic_flows.platforms.gke.setup.project.grants import Grant, People
from kinetic_flows.platforms.gke.setup.project.ledger import Ledger
from kinetic_flows.platforms.gke.setup.project.network import CloudNat, Network
from kinetic_flows.platforms.gke.setup.project.people import (
    Directory,
    bound_accounts,
    bound_members,
    own_members,
    purposes,
)
from kinetic_flows.platforms.gke.setup.project.policies import BucketHolder, GrpcHolder, Holder
from kinetic_flows.platforms.gke.setup.project.registry import Repository
from kinetic_flows.platforms.gke.setup.project.roles import Roles
from kinetic_flows.platforms.gke.setup.project.services import Project, Services

Granted = Callable[[], tuple[Grant, ...]]


def project(wanted: Wanted) -> tuple[Resource, ...]:
    """Return the project, which is looked at."""
    return (Project(apis=wanted.apis, name=wanted.request.project),)


def services(wanted: Wanted) -> tuple[Resource, ...]:
    """Return the APIs."""
    return (Services(apis=wanted.apis, project=wanted.request.project),)


def accounts(wanted: Wanted) -> tuple[Resource, ...]:
    """Return the Google service accounts."""
    return tuple(_account(wanted, purpose) for purpose in purposes(wanted.request))


def network(wanted: Wanted) -> tuple[Resource, ...]:
    """Return the network, and the Cloud NAT of private nodes; others' clusters have theirs."""
    request, apis = wanted.request, wanted.apis
    if request.joins:
        return ()
    nat = CloudNat(
        apis=apis,
        project=request.project,
        region=request.region,
        cluster=request.cluster,
        nodes=request.max_nodes + sum(pool.max_nodes for pool in request.pools),
    )
    of_nodes = Network(apis=apis, project=request.project)
    return (of_nodes, nat) if request.private_nodes else (of_nodes,)


def storage(wanted: Wanted) -> tuple[Resource, ...]:
    """Return the buckets and the repository."""
    return (_jobs_bucket(wanted), _builds_bucket(wanted), _repository(wanted))


def roles(wanted: Wanted) -> tuple[Resource, ...]:
    """Return the roles on the project, the buckets, the repository and the account of builds."""
    apis, request = wanted.apis, wanted.request
    people = Directory(request, apis).people
    repository = _repository(wanted)
    own_project = f"projects/{request.project}"
    on_project = GrpcHolder(
        apis=apis,
        title=f"project {request.project}",
        resource=own_project,
        client=lambda: apis.projects,
    )
    on_repository = GrpcHolder(
        apis=apis,
        title=f"repository {repository.name}",
        resource=repository.resource,
        client=lambda: apis.artifacts,
    )
    on_jobs = BucketHolder(apis=apis, project=request.project, bucket=_jobs_bucket(wanted).bucket)
    on_builds = BucketHolder(
        apis=apis, project=request.project, bucket=_builds_bucket(wanted).bucket
    )
    table = (
        (on_jobs, grants.on_jobs_bucket),
        (on_builds, grants.on_builds_bucket),
        (on_repository, grants.on_repository),
        (_account_holder(wanted, "builds"), grants.on_builds_account),
    )
    own = tuple(_roles(wanted, holder, partial(_of, granted, people)) for holder, granted in table)
    of_project = _roles(wanted, on_project, partial(_of, grants.on_project, people))
    others = partial(of_project.ledger.others, request.project)
    return (replace(of_project, sharing=others), *own)


def identities(wanted: Wanted) -> tuple[Resource, ...]:
    """Return which Kubernetes service accounts may act as the Google ones.

    They can be bound when the project has a cluster with Workload Identity.
    """
    request = wanted.request
    people = Directory(request, wanted.apis).people
    pods, worker = bound_accounts(request)
    bound: dict[Purpose, tuple[str, str]] = {"pods": pods}
    if request.worker:
        bound["launch"] = worker
    found = (
        _roles(
            wanted,
            _account_holder(wanted, purpose),
            partial(_of, partial(_identity, request.project, account), people),
        )
        for purpose, account in bound.items()
    )
    return tuple(replace(each, own=each.own | bound_members(request)) for each in found)


def _account(wanted: Wanted, purpose: Purpose) -> ServiceAccount:
    request = wanted.request
    return ServiceAccount(
        apis=wanted.apis, project=request.project, cluster=request.cluster, purpose=purpose
    )


def _account_holder(wanted: Wanted, purpose: Purpose) -> GrpcHolder:
    account = _account(wanted, purpose)
    return GrpcHolder(
        apis=wanted.apis,
        title=f"service account {account.name}",
        resource=account.resource,
        client=lambda: wanted.apis.iam,
        is_known=account.is_known,
    )


def _roles(wanted: Wanted, holder: Holder, granted: Granted) -> Roles:
    return Roles(
        holder=holder,
        grants=granted,
        own=own_members(wanted.request),
        ledger=Ledger(apis=wanted.apis, bucket=_builds_bucket(wanted).bucket),
    )


def _identity(project: str, account: tuple[str, str], people: People) -> tuple[Grant, ...]:
    return grants.on_identity(people, project, account)


def _of(
    granted: Callable[[grants.People], tuple[grants.Grant, ...]],
    people: Callable[[], grants.People],
) -> tuple[grants.Grant, ...]:
    return granted(people())


def _jobs_bucket(wanted: Wanted) -> Bucket:
    request = wanted.request
    name = cloud_names.jobs_bucket(request.project, request.cluster)
    return _bucket(wanted, name, jobs_rules(request.retention_days))


def _builds_bucket(wanted: Wanted) -> Bucket:
    request = wanted.request
    name = cloud_names.builds_bucket(request.project, request.cluster)
    return _bucket(wanted, name, builds_rules(request.retention_days))


def _bucket(wanted: Wanted, name: str, rules: tuple[Rule, ...]) -> Bucket:
    request = wanted.request
    return Bucket(
        apis=wanted.apis,
        project=request.project,
        region=request.region,
        cluster=request.cluster,
        bucket=name,
        rules=rules,
    )


def _repository(wanted: Wanted) -> Repository:
    request = wanted.request
    return Repository(
        apis=wanted.apis,
        project=request.project,
        region=request.region,
        cluster=request.cluster,
    )
