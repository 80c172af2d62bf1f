"""What the value of a setting may look like.

Every function takes a value as it was given, and what to call the setting in an error (`zone=`,
`KINETIC_ZONE`, or `zone of profile 'prod'`); it returns the value as it is used, or raises
`ConfigurationError` with the value and what to write instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

from kinetic_flows.core.errors import ConfigurationError, suggest

_HOST = r"(?:[A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:]+\])(?::\d{1,5})?"
_SECRET_NAME = r"(?:projects/[a-z0-9.-]+/secrets/)?[A-Za-z0-9_-]{1,255}"  # noqa: S105 - a pattern
_ENDPOINT = re.compile(rf"(?:https?://)?{_HOST}(?:/[^\s@]*)?")

YES, NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
"""How truth values are written, in any case."""


def as_it_is(value: object, label: str) -> str:  # noqa: ARG001 - as all of these are called
    """Return a text that is checked where it is used."""
    return str(value)


def path(value: object, label: str) -> Path:  # noqa: ARG001 - as all of these are called
    """Return a path, which may begin with `~`."""
    return Path(str(value)).expanduser()


def home(value: object, label: str) -> Path:
    """Check the directory that every working directory shares."""
    found = path(value, label)
    if not found.is_absolute():
        hint = "give it as an absolute path, so that every working directory shares it"
        _refuse(value, f"{label} is the relative path {value!r}", hint)
    return found


def flag(value: object, label: str) -> bool:
    """Check a truth value."""
    word = str(value).lower()
    if word in NO:
        return False
    if word not in YES:
        _refuse(value, f"{label} is {value!r}", "set it to 1 or 0")
    return True


def megabytes(value: object, label: str) -> int:
    """Check a number of megabytes, and return it in bytes."""
    return whole_number("megabytes")(value, label) * 1_000_000


def project(value: object, label: str) -> str:
    """Check a project's id.

    https://cloud.google.com/resource-manager/docs/creating-managing-projects: 6 to 30 lower-case
    letters, digits and dashes; old ones of an organisation have its domain in front.
    """
    hint = "give the project's id, such as my-project-123: see `gcloud projects list`"
    if str(value).isdigit():
        hint = f"that is a project's number; {hint}"
    return _matching(r"(?:[a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]", value, label, hint)


def zone(value: object, label: str) -> str:
    """Check a zone; a region will do, as regional clusters have no zone."""
    pattern = r"[a-z]+(?:-[a-z]+)+\d+(?:-(?:[a-z]|ai\d+[a-z]))?"
    hint = "give a zone, such as us-central1-a, or the region of a regional cluster"
    return _matching(pattern, value, label, hint)


def zones(value: object, label: str) -> tuple[str, ...]:
    """Check names of zones: a list of them, or a text with commas between."""
    named = value.split(",") if isinstance(value, str) else value
    if not isinstance(named, list | tuple):
        _refuse(value, f"{label} is {value!r}", "name zones such as us-central1-a")
    pattern = r"[a-z]+(?:-[a-z]+)+\d+-(?:[a-z]|ai\d+[a-z])"
    texts = [each.strip() if isinstance(each, str) else each for each in named]
    hint = "name zones such as us-central1-a, one at least"
    return tuple(dict.fromkeys(_matching(pattern, each, label, hint) for each in texts or [""]))


def reservation(value: object, label: str) -> str:
    """Check a reservation's name, its path in another project, or `any`."""
    hint = "give its name, projects/PROJECT/reservations/NAME, or any for whichever fits"
    name = r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?"
    return _matching(rf"(?:projects/[a-z0-9.:-]+/reservations/)?{name}", value, label, hint)


def node_pool(value: object, label: str) -> str:
    """Check the name of a GKE node pool."""
    hint = "give the pool's name, as `kinetic accelerators --live` shows it"
    return _matching(r"[a-z](?:[a-z0-9-]{0,38}[a-z0-9])?", value, label, hint)


def compute_class(value: object, label: str) -> str:
    """Check the name of a compute class: one of the cluster's own, or of GKE's, as Performance."""
    hint = "give the name of a compute class: see `kubectl get computeclasses`"
    return _matching(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,61}[A-Za-z0-9])?", value, label, hint)


def build_location(value: object, label: str) -> str:
    """Check where builds run."""
    hint = "give global, or a region such as us-central1"
    return _matching(r"global|[a-z]+(?:-[a-z]+)+\d+", value, label, hint)


def cluster(value: object, label: str) -> str:
    """Check the name of a GKE cluster."""
    hint = "give the cluster's name: up to 40 lower-case letters, digits and dashes"
    return _matching(r"[a-z](?:[a-z0-9-]{0,38}[a-z0-9])?", value, label, hint)


def namespace(value: object, label: str) -> str:
    """Check a Kubernetes namespace: a label of RFC 1123."""
    hint = "give up to 63 lower-case letters, digits and dashes"
    return _matching(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", value, label, hint)


def work_pool(value: object, label: str) -> str:
    """Check the name of a Prefect work pool."""
    hint = "give the pool's name, as `kinetic prefect work-pool ls` shows it"
    return _matching(r"[^/%&<>\s](?:[^/%&<>\n]*[^/%&<>\s])?", value, label, hint)


def bucket(value: object, label: str) -> str:
    """Check a bucket's name (https://cloud.google.com/storage/docs/buckets#naming)."""
    hint = (
        "give the bucket's bare name, without gs://: 3 to 63 lower-case letters, digits, dashes, "
        "underscores and dots"
    )
    return _matching(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]", value, label, hint)


def image_repository(value: object, label: str) -> str:
    """Check a repository of images, with or without a registry's host."""
    hint = "give it without a tag, such as us-docker.pkg.dev/my-project/my-repo or my-name"
    part = r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*"
    return _matching(rf"{part}(?::\d+)?(?:/{part})*", str(value).rstrip("/"), label, hint)


def image_tag(value: object, label: str) -> str:
    """Check an image's tag, as the distribution project defines it."""
    hint = "give the tag alone, as kinetic build-image --tag takes it, such as v2.0.0"
    return _matching(r"(?a:\w[\w.-]{0,127})", value, label, hint)


def service_account(value: object, label: str) -> str:
    """Check a service account: its e-mail address, or its full name with one."""
    hint = "give its address, such as builder@my-project.iam.gserviceaccount.com"
    pattern = r"(?:projects/[^/\s]+/serviceAccounts/)?[^@/\s]+@[^@/\s]+\.[^@/\s.]+"
    return _matching(pattern, value, label, hint)


def machine_type(value: object, label: str) -> str:
    """Check a machine type and spell it as Cloud Build's API does."""
    hint = "give one of Cloud Build's machine types, such as E2_HIGHCPU_8"
    text = _matching(r"[A-Za-z][A-Za-z0-9]*(?:[_-][A-Za-z0-9]+)+", value, label, hint)
    return text.upper().replace("-", "_")


def endpoint(value: object, label: str) -> str:
    """Check an address to use in place of Google's own."""
    if "@" in str(value):  # a password must not be printed
        _refuse("<hidden>", f"{label} has a user name in it", "give host:port alone")
    hint = "give host:port, or http://host:port for plain text"
    if not _ENDPOINT.fullmatch(str(value)):
        _refuse(value, f"{label} is {value!r}", hint)
    return str(value).rstrip("/")


def url(value: object, label: str) -> str:
    """Check an address; one without a scheme is meant as `https`."""
    text = endpoint(value, label)
    return text if "://" in text else f"https://{text}"


def endpoints(value: object, label: str) -> dict[str, str]:
    """Check addresses by registry: a mapping, or `host=url,host=url`."""
    hint = "write host=url,host=url, such as us-docker.pkg.dev=https://10.0.0.5:5000"
    pairs = _by_host(value, label, hint)
    return {host: url(address, f"{label} of {host}") for host, address in pairs.items()}


GOOGLE_APIS = (
    *("cloudbilling", "cloudresourcemanager", "compute", "container", "iam"),
    *("oauth2", "serviceusage"),
)
"""The Google APIs that `KINETIC_API_ENDPOINTS` knows, by the first word of their host."""


def api_endpoints(value: object, label: str) -> dict[str, str]:
    """Check endpoints by Google API: a mapping, or `name=host:port,name=host:port`."""
    hint = "write name=host:port, such as container=container.internal.example.com:443"
    pairs = _by_host(value, label, hint)
    for name in pairs:
        if name not in GOOGLE_APIS:
            _refuse(name, f"{label} names {name!r}", f"the APIs are {', '.join(GOOGLE_APIS)}")
    return {name: endpoint(address, f"{label} of {name}") for name, address in pairs.items()}


def registry_logins(value: object, label: str) -> dict[str, str]:
    """Check logins by registry: a mapping, or `host=user-secret:token-secret,host=...`.

    What is named are secrets of Secret Manager, by their names in the project or in full; what
    they hold is no setting.
    """
    hint = (
        "name two secrets of Secret Manager, the user name's and the password's, such as "
        "registry.example.com=registry-user:registry-token"
    )
    pairs = _by_host(value, label, hint)
    for host, secrets in pairs.items():
        if not re.fullmatch(rf"{_SECRET_NAME}:{_SECRET_NAME}", secrets):
            # It may be a password that somebody put here.
            _refuse(host, f"{label} of {host} does not name two secrets", hint)
    return pairs


def _by_host(value: object, label: str, hint: str) -> dict[str, str]:
    """Read `host=text,host=text`, or a mapping of that."""
    if isinstance(value, Mapping):
        pairs = [(str(host), str(text)) for host, text in value.items()]
    else:
        written = [part.strip() for part in str(value).split(",") if part.strip()]
        pairs = [(host.strip(), text.strip()) for host, _, text in map(_split, written)]
    for host, text in pairs:
        if not re.fullmatch(_HOST, host) or not text:
            shown = f"{host}=" if not text else host
            _refuse(shown, f"{label} has the entry {shown!r}", hint)
    return dict(pairs)


def whole_number(unit: str, *, maximum: int | None = None) -> Callable[[object, str], int]:
    """Return a check for a positive whole number.

    Args:
        unit: What is counted.
        maximum: The most that it may be; None for no limit.
    """

    def parse(value: object, label: str) -> int:
        text = str(value)
        is_number = text.isascii() and text.isdigit() and not isinstance(value, bool)
        if not is_number or int(text) == 0 or (maximum and int(text) > maximum):
            most = f", at most {maximum}" if maximum else ""
            _refuse(value, f"{label} is {value!r}", f"give a whole number of {unit}{most}")
        return int(text)

    return parse


def choice(*valid: str) -> Callable[[object, str], str]:
    """Return a check for one of some words, in any case."""

    def parse(value: object, label: str) -> str:
        word = str(value).lower()
        if word not in valid:
            _refuse(value, f"{label} is {value!r}", suggest(word, valid))
        return word

    return parse


def _split(entry: str) -> tuple[str, str, str]:
    return entry.partition("=")


def _matching(pattern: str, value: object, label: str, hint: str) -> str:
    if not isinstance(value, str) or not re.fullmatch(pattern, value):
        _refuse(value, f"{label} is {value!r}", hint)
    return value


def _refuse(value: object, message: str, hint: str) -> NoReturn:
    raise ConfigurationError(message, value=value, hint=hint)
