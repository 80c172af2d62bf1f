"""Who the Google credentials are, and whether Google takes them."""

from __future__ import annotations

from collections.abc import Iterable

from kinetic_flows.clients.google.refusals import CloudRefusal
from kinetic_flows.core.errors import ConfigurationError
from kinetic_flows.core.findings import Finding, finding_of
from kinetic_flows.platforms.gke.checks.facts import ClusterFacts

SUBJECT = "Google credentials"


def login_findings(facts: ClusterFacts) -> Iterable[Finding]:
    """Yield who the credentials are.

    Raises:
        KineticError: Google cannot be asked.
    """
    try:
        apis = facts.apis.get()
    except ConfigurationError as error:
        storage = facts.cloud.storage_endpoint or ""
        if storage.startswith("http://"):
            text = f"there are none, and the storage at {storage} needs none"
            yield Finding(subject=SUBJECT, level="ok", text=text)
        else:
            yield finding_of(SUBJECT, error)
        return
    except CloudRefusal as error:
        yield finding_of(SUBJECT, error, "wrong" if error.reason == "login" else "unknown")
        return
    email = apis.identity.email
    saved = facts.cloud.credentials
    whose = f", of the block {saved.name}" if saved else ""
    known = email or "good, and Google does not tell whose"
    yield Finding(subject=SUBJECT, level="ok", text=f"{known}{whose}")
