"""Keeping credentials out of everything that leaves: URLs, messages, locks.

A URL's user name and password are never part of what a package is; they are removed
wherever a URL is written down. Secrets named by the environment (`UV_INDEX_*_PASSWORD` and
the like) are removed from messages by value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

HIDDEN = "****"

_USERINFO = re.compile(r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]*://)(?P<userinfo>[^\s/?#'\"<>]+)@")
_SECRET_VARIABLE = re.compile(r"PASSWORD|TOKEN|SECRET|CREDENTIAL|API_?KEY")
_SECRET_PARAMETER = re.compile(
    r"(?P<name>[?&](?:token|access_token|private_token|auth|password|api_key|sig|signature)=)"
    r"[^&\s#'\"]+",
    re.IGNORECASE,
)
_HARMLESS_USERS = frozenset({"git", "hg", "oauth2accesstoken", "__token__", "VssSessionToken"})
_MIN_SECRET_CHARACTERS = 6


@dataclass(frozen=True)
class Redactor:
    """Removes known secrets and URL credentials from texts.

    Attributes:
        secrets: Values to remove wherever they stand, longest first.
    """

    secrets: tuple[str, ...] = ()

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Redactor:
        """Return a redactor that knows the secrets of an environment."""
        found: set[str] = set()
        for name, value in environ.items():
            if is_secret_name(name):
                found.add(value)
            found.update(_url_secrets(value))
        long_enough = {item for item in found if len(item) >= _MIN_SECRET_CHARACTERS}
        return cls(tuple(sorted(long_enough, key=lambda item: (-len(item), item))))

    def __call__(self, text: str) -> str:
        """Return the text with every secret in it replaced by asterisks."""
        text = _USERINFO.sub(_hide_userinfo, text)
        text = _SECRET_PARAMETER.sub(rf"\g<name>{HIDDEN}", text)
        for secret in self.secrets:
            text = text.replace(secret, HIDDEN)
        return text


def without_credentials(text: str) -> str:
    """Return a text whose URLs carry no user name, password or token any more.

    The user of an `ssh` URL (`git@`) stays: without it the URL means something else.
    """
    text = _USERINFO.sub(_drop_userinfo, text)
    return _SECRET_PARAMETER.sub(rf"\g<name>{HIDDEN}", text)


def is_secret_name(variable: str) -> bool:
    """Whether an environment variable's name says that its value is a secret."""
    return _SECRET_VARIABLE.search(variable.upper()) is not None


def written_credentials(text: str) -> str | None:
    """Return the URL in a text that carries a credential itself, redacted; None for none.

    A reference to an environment variable (`https://${USER}:${TOKEN}@host`) is not a credential,
    nor is a user name that everybody has (`git@`).
    """
    for match in _USERINFO.finditer(text):
        user, colon, password = match["userinfo"].partition(":")
        if not _is_harmless(user, password, has_password=bool(colon)):
            return f"{match['scheme']}{HIDDEN}@{_host_after(text, match.end())}"
    parameter = _SECRET_PARAMETER.search(text)
    if parameter and "${" not in parameter[0]:
        return _SECRET_PARAMETER.sub(rf"\g<name>{HIDDEN}", text)
    return None


def _is_harmless(user: str, password: str, *, has_password: bool) -> bool:
    if has_password:
        return not password or _is_reference(password)
    return user in _HARMLESS_USERS or _is_reference(user)


def _is_reference(text: str) -> bool:
    return re.fullmatch(r"\$\{[A-Z0-9_]+\}", text) is not None


def _host_after(text: str, position: int) -> str:
    rest = re.match(r"[^\s'\"]*", text[position:])
    return rest[0] if rest else ""


def _hide_userinfo(match: re.Match[str]) -> str:
    user = match["userinfo"].partition(":")[0]
    if match["userinfo"] == user and (user in _HARMLESS_USERS or _is_reference(user)):
        return match[0]
    return f"{match['scheme']}{HIDDEN}@"


def _drop_userinfo(match: re.Match[str]) -> str:
    user, _, _ = match["userinfo"].partition(":")
    is_ssh = match["scheme"].removesuffix("://").endswith("ssh")
    return f"{match['scheme']}{user}@" if is_ssh else match["scheme"]


def _url_secrets(value: str) -> set[str]:
    found: set[str] = set()
    for match in _USERINFO.finditer(value):
        user, _, password = match["userinfo"].partition(":")
        found.update({password, unquote(password)} if password else {user, unquote(user)})
    return found - _HARMLESS_USERS
