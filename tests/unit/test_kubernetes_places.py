"""By what a namespace of one cluster is told from others."""

from __future__ import annotations

from typing import Any

from kinetic_flows.clients.kubernetes.client import KubernetesRefused, KubernetesUnreachable
from kinetic_flows.platforms.gke.launcher import KubernetesLauncher, LauncherSettings


class Client:
    """A cluster that answers as it is told to."""

    def __init__(self, *answers: dict[str, Any] | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def ask(self, _method: str, path: str) -> dict[str, Any]:
        self.asked.append(path)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def places(client: Any, times: int) -> list[str]:
    launcher = KubernetesLauncher(client, LauncherSettings(namespace="team-a"))
    return [launcher.place() for _ in range(times)]


def test_a_place_is_asked_for_once():
    client = Client({"metadata": {"uid": "u-1"}})
    assert places(client, 3) == ["team-a/u-1"] * 3
    assert client.asked == ["/api/v1/namespaces/team-a/serviceaccounts/default"]


def test_an_outage_is_outlasted_and_who_may_not_ask_knows_the_name_alone():
    away = KubernetesUnreachable("no answer")
    assert places(Client(away, {"metadata": {"uid": "u-1"}}), 2) == ["team-a", "team-a/u-1"]
    assert places(Client(KubernetesRefused(403, "no", "GET")), 2) == ["team-a"] * 2
