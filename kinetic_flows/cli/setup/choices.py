"""The conversation of `kinetic init`: what was found, what is asked, and what is then wanted."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace

from kinetic_flows.cli.setup.options import SetupOptions
from kinetic_flows.cli.setup.place import Surroundings, request_of
from kinetic_flows.cli.setup.prefect import connected_cluster, elsewhere
from kinetic_flows.cli.setup.questions import (
    ask_cluster,
    ask_prefect,
    ask_prefect_login,
    ask_project,
)
from kinetic_flows.cli.setup.report import checked, warned
from kinetic_flows.clients.google.apis import GoogleApis
from kinetic_flows.clients.google.login import require_login
from kinetic_flows.clients.prefect.logins import KEY, Login, log_in
from kinetic_flows.core.errors import ConfigurationError, KineticError, UsageError, suggest
from kinetic_flows.core.settings.cloud import CloudSettings
from kinetic_flows.core.settings.cloud_names import region
from kinetic_flows.platforms.gke.setup import survey
from kinetic_flows.platforms.gke.setup.clusters.cluster import FoundCluster
from kinetic_flows.platforms.gke.setup.request import SetupRequest


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """What came of the conversation.

    Attributes:
        request: What is wanted.
        apis: Google's APIs, for its project.
        options: What the command line would have to say for the same.
        login: The Prefect API elsewhere that was logged in to; None where none was named.
    """

    request: SetupRequest
    apis: GoogleApis
    options: SetupOptions
    login: Login | None = None


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """Finds out what can be found out, and asks the rest.

    Attributes:
        around: What is known before.
        options: What the command line says.
        asks: Whether there is somebody to ask; else what is not said is as it is by default.
    """

    around: Surroundings
    options: SetupOptions
    asks: bool

    def hold(self) -> Chosen:
        """Return what is wanted; each thing is looked at before the next is asked.

        Raises:
            KineticError: The credentials, the project, its billing or the rights will not do.
            UsageError: Something is not said, and there is nobody to ask.
        """
        require_login(environ=self.around.environ)
        anywhere = self.around.apis(None)
        self._tell_who(anywhere)
        options = replace(self.options, project=self._project(anywhere))
        apis = self.around.apis(options.project)
        _check_project(apis)
        clusters = survey.find_clusters(apis)
        options = self._cluster(options, clusters)
        options, login = self._prefect(options)
        cloud = self.around.cloud(options.values())
        found = _find(clusters, cloud)
        request = request_of(options, cloud, found)
        return Chosen(request=request, apis=apis, options=options, login=login)

    def _tell_who(self, apis: GoogleApis) -> None:
        email = apis.identity.email
        checked(f"Google Cloud credentials: {email or 'accepted; Google does not tell whose'}")

    def _project(self, apis: GoogleApis) -> str:
        if self.options.project:
            return self.options.project
        known = self.around.known_project(self.options)
        if self.asks:
            return ask_project(survey.find_projects(apis), known)
        if known is None:
            raise UsageError(
                "no project is known, and nobody is asked for it",
                hint="give --project: its id, as `gcloud projects list` shows it",
            )
        return known

    def _cluster(self, options: SetupOptions, clusters: Sequence[FoundCluster]) -> SetupOptions:
        cloud = self.around.cloud(options.values())
        is_said = options.cluster or options.accelerator or options.autopilot is not None
        if self.asks and not is_said:
            options = ask_cluster(clusters, options, cloud)
            cloud = self.around.cloud(options.values())
        if options.join:
            return _joined(options, cloud, clusters)
        if options.zone is None:
            # What is there is gone on with, wherever it is.
            there = [each for each in clusters if each.name == cloud.cluster and each.is_made_here]
            is_regional = options.autopilot and not there
            zone = there[0].location if there else cloud.zone
            return replace(options, zone=region(zone) if is_regional else zone)
        return options

    def _prefect(self, options: SetupOptions) -> tuple[SetupOptions, Login | None]:
        """Return the options with where Prefect is, and the API elsewhere that is logged in to."""
        known = elsewhere(self.around)
        if options.prefect == "machine" and known:
            raise ConfigurationError(
                f"Prefect's settings name another API, {known}, which comes before the "
                "background server of this machine",
                value=known,
                hint="unset PREFECT_API_URL, or choose another profile of Prefect's: "
                "`kinetic prefect profile ls`; or leave out --prefect machine",
            )
        if options.prefect_url:
            return replace(options, prefect="cloud"), self._logged_in(options.prefect_url)
        inside = connected_cluster(self.around)
        if options.prefect is None and known and inside == self._cluster_name(options):
            checked(f"Prefect: the server in cluster {inside}")
            return replace(options, prefect="cluster"), None
        if options.prefect is None and known:
            checked(f"Prefect: {known}, as it is configured")
            return replace(options, prefect="cloud"), None
        home = options.prefect or (ask_prefect("machine") if self.asks else "machine")
        login = self._logged_in(None) if home == "cloud" and self.asks and not known else None
        url = login.url if login else None
        return replace(options, prefect=home, prefect_url=url), login

    def _cluster_name(self, options: SetupOptions) -> str:
        return self.around.cloud(options.values()).cluster

    def _logged_in(self, url: str | None) -> Login:
        """Log in to a Prefect API; what is refused may be given again, where there is somebody.

        Args:
            url: The API; None where it is asked for.

        Raises:
            KineticError: It cannot be reached, or lets one not in, and nobody is asked.
        """
        key = self.around.environ.get(KEY)
        while True:
            where = url
            if self.asks and (where is None or key is None):
                where, key = ask_prefect_login(url or "")
            try:
                login = log_in(where or "", key)
            except KineticError as error:
                if not self.asks:
                    raise
                warned(str(error))
                key = None
                continue
            checked(f"Prefect: {login.url} lets you in")
            return login


def _check_project(apis: GoogleApis) -> None:
    """See that a project is there, that it has billing, and that one may set things up in it.

    Raises:
        ConfigurationError: One of them is not so.
    """
    project = apis.project or ""
    missing = survey.missing_rights(apis)
    billed = survey.is_billed(apis)
    if billed is False:
        raise ConfigurationError(
            f"project {project!r} has no billing account, and clusters cost money",
            value=project,
            hint="link one: https://console.cloud.google.com/billing/linkedaccount"
            f"?project={project}",
        )
    if missing:
        member = apis.identity.member or "user:YOU"
        roles = survey.roles_for(missing)
        grants = "; ".join(
            f"gcloud projects add-iam-policy-binding {project} --member={member} --role={role}"
            for role in roles
        )
        raise ConfigurationError(
            f"{apis.identity.email or 'these credentials'} may not set up project {project!r}: "
            f"{', '.join(missing)} missing",
            value=missing,
            hint=f"have its owner grant roles/owner, or: {grants}",
        )
    told = [f"project {project}"]
    told += ["billing is on"] if billed else []
    told += ["you may set it up"] if missing is not None else []
    checked(": ".join((told[0], ", ".join(told[1:]) or "chosen")))


def _joined(
    options: SetupOptions, cloud: CloudSettings, clusters: Sequence[FoundCluster]
) -> SetupOptions:
    """Return the options with the place of the cluster that is joined.

    Raises:
        UsageError: There is none of that name.
    """
    found = [
        each
        for each in clusters
        if each.name == cloud.cluster and options.zone in (None, each.location)
    ]
    if not found:
        names = [each.name for each in clusters]
        raise UsageError(
            f"project {options.project!r} has no cluster {cloud.cluster!r}"
            + (f" in {options.zone}" if options.zone else ""),
            value=cloud.cluster,
            hint=suggest(cloud.cluster, names) if names else "leave --join out to make one",
        )
    return replace(options, cluster=found[0].name, zone=found[0].location)


def _find(clusters: Sequence[FoundCluster], cloud: CloudSettings) -> FoundCluster | None:
    return next(
        (each for each in clusters if (each.name, each.location) == (cloud.cluster, cloud.zone)),
        None,
    )


def command_again(command: str, options: SetupOptions, profile: str | None = None) -> str:
    """Return the command line that wants the same without asking.

    Args:
        command: The command: `init`.
        options: What was said and answered.
        profile: The name under which it is saved; None for the cluster's.
    """
    words = ["kinetic", command, *(["--profile", profile] if profile else [])]
    for name in ("project", "zone", "cluster", "reservation", "machine_type", "namespace"):
        value = getattr(options, name)
        words += [f"--{name.replace('_', '-')}", value] if value else []
    words += [word for each in options.accelerator for word in ("--accelerator", each)]
    words += [word for each in options.member for word in ("--member", each)]
    said = ("max_nodes", "work_pool", "retention_days", "prefect")
    for name in (*said, "jobset_manifest", "kueue_manifest"):
        value = getattr(options, name)
        words += [f"--{name.replace('_', '-')}", str(value)] if value is not None else []
    for name in ("autopilot", "join", "private_nodes", "jobset", "kueue", "worker"):
        words += [f"--{name.replace('_', '-')}"] if getattr(options, name) else []
    return shlex.join(words)
