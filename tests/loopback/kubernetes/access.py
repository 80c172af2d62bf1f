"""Who may do what, with refusals worded as RBAC words them."""

from __future__ import annotations

from dataclasses import dataclass, field

from loopback.kubernetes.errors import ApiError

TOKEN = "loopback-token"


@dataclass(frozen=True, kw_only=True)
class Denial:
    """Something nobody but an administrator may do.

    Attributes:
        resource: Plural, or `pods/log`; `*` for every kind.
        verb: get, list, watch, create, update, patch or delete; `*` for all.
        namespace: Where; None for everywhere.
        user: Whom it binds; None for every user.
    """

    resource: str
    verb: str = "*"
    namespace: str | None = None
    user: str | None = None

    def binds(self, user: str, verb: str, resource: str, namespace: str) -> bool:
        return (
            self.resource in ("*", resource)
            and self.verb in ("*", verb)
            and self.namespace in (None, namespace)
            and self.user in (None, user)
        )


@dataclass
class Access:
    """Tokens, what their users may not do, and what has been asked for: verbs of resources."""

    users: dict[str, str] = field(default_factory=lambda: {TOKEN: "tester@example.com"})
    denials: list[Denial] = field(default_factory=list)
    asked: set[tuple[str, str]] = field(default_factory=set)

    def user(self, authorization: str) -> str:
        """Return whose token a request carries."""
        try:
            return self.users[authorization.removeprefix("Bearer ")]
        except KeyError:
            raise ApiError(401, "Unauthorized") from None

    def allows(self, user: str, verb: str, resource: str, namespace: str) -> bool:
        return not any(d.binds(user, verb, resource, namespace) for d in self.denials)

    def check(self, user: str, verb: str, resource: str, group: str, namespace: str) -> None:
        """Refuse what the user may not do, and note that it was asked for."""
        self.asked.add((verb, resource))
        if self.allows(user, verb, resource, namespace):
            return
        qualified = f"{resource}.{group}" if group else resource
        where = f' in the namespace "{namespace}"' if namespace else " at the cluster scope"
        raise ApiError(
            403,
            f'{qualified} is forbidden: User "{user}" cannot {verb} resource "{resource}" '
            f'in API group "{group}"{where}',
        )
