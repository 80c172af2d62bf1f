"""What `kinetic doctor` says of this machine and of Prefect, whatever is wrong with them."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from importlib.metadata import version
from pathlib import Path
from uuid import uuid4

import pytest

from kinetic_flows.cli.doctor_report import DoctorReport
from kinetic_flows.cli.main import main
from kinetic_flows.clients.prefect.condition import version_difference
from kinetic_flows.core.clocks import ServerTime, clock_finding
from kinetic_flows.core.errors import (
    ConfigurationError,
    KineticError,
    LaunchError,
    PrefectServerError,
    UsageError,
    known_to_doctor,
)
from kinetic_flows.core.files import exclusive_lock
from kinetic_flows.core.findings import Check, Fact, Finding, NotAsked, command_in, finding_of
from kinetic_flows.core.object_names import lease_object
from kinetic_flows.core.processes import current_process
from kinetic_flows.platforms.gke.builds.lease import Lease, LeaseRecord
from kinetic_flows.platforms.gke.checks.leases import abandoned, give_back
from kinetic_flows.platforms.local.checks.environments import environment_findings
from kinetic_flows.platforms.local.store import LocalStore
from kinetic_flows.runs.client_checks import (
    LITTLE_BYTES,
    TOO_LITTLE_BYTES,
    disk_finding,
    home_finding,
    package_findings,
    python_finding,
    uv_finding,
)
from kinetic_flows.runs.doctor import GROUPS, examine
from kinetic_flows.runs.ledger import ClientLedger
from loopback.wire import Fault, Request, Response, WireServer

PREFECT = version("prefect")


class Prefect:
    """A Prefect API that says of itself what a test wants it to say."""

    def __init__(self) -> None:
        self.version = PREFECT
        self.server = WireServer(self.answer).start()
        self.url = f"{self.server.url}/api"

    def answer(self, request: Request) -> Response:
        answers = {
            "/api/admin/version": self.version,
            "/api/flow_runs/filter": [],
            "/api/csrf-token": None,
        }
        found = answers.get(request.path)
        if found is None:
            return Response(status=404, body=b'{"detail": "Not Found"}')
        return Response(body=json.dumps(found).encode())


@pytest.fixture(scope="module")
def shared_prefect() -> Iterator[Prefect]:
    made = Prefect()
    yield made
    made.server.stop()


@pytest.fixture
def prefect(shared_prefect: Prefect) -> Prefect:
    shared_prefect.version, shared_prefect.server.clock_offset_seconds = PREFECT, 0.0
    return shared_prefect


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # Where the function of another test is.
    monkeypatch.setattr("kinetic_flows.code.project_settings._last", [])


def found(seconds: float = 20.0, **environ: str) -> dict[str, Finding]:
    """Return what is found with this process's variables and some more, by subject."""
    examined = list(examine({**os.environ, **environ}, seconds=seconds))
    places = [GROUPS.index(each.group) for each in examined]
    assert places == sorted(places)
    return {each.finding.subject: each.finding for each in examined}


def levels(findings: dict[str, Finding]) -> dict[str, str]:
    return {subject: each.level for subject, each in findings.items()}


def test_a_machine_where_nothing_is_configured_is_well_and_told_how_to_go_on(tmp_path) -> None:
    findings = found()
    assert set(levels(findings).values()) == {"ok"}
    assert "`kinetic init` sets Google Cloud up" in findings["GKE"].text
    assert "the next call starts it" in findings["Prefect API"].text
    assert not (tmp_path / "kinetic-home").exists(), "looking makes nothing"


def test_a_prefect_api_that_answers_is_well(prefect: Prefect) -> None:
    findings = found(PREFECT_API_URL=prefect.url)
    assert set(levels(findings).values()) == {"ok"}
    assert f"Prefect {PREFECT}, as here" in findings["Prefect API"].text
    assert "clock against Prefect" in findings


def test_everything_that_is_broken_is_told_at_once(prefect: Prefect, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.write_text("a file")
    (tmp_path / "pyproject.toml").write_text("[tool.kinetic]\nzone = 3\n")
    prefect.version, prefect.server.clock_offset_seconds = "3.1.0", 400.0
    findings = found(PREFECT_API_URL=prefect.url, KINETIC_CLUSTR="x", KINETIC_HOME=str(home))
    assert levels(findings) == {
        **levels(findings),
        "KINETIC_HOME": "wrong",
        "KINETIC_CLUSTR": "warning",
        "settings": "wrong",
        "clock against Prefect": "wrong",
        "Prefect API": "warning",
        "runs of long ago": "unknown",
    }
    assert findings["KINETIC_CLUSTR"].command == "unset KINETIC_CLUSTR"
    assert "did you mean KINETIC_CLUSTER?" in findings["KINETIC_CLUSTR"].text
    assert "pyproject.toml" in findings["settings"].text
    assert "6 min 4" in findings["clock against Prefect"].text
    assert f'pip install "prefect=={PREFECT}"' in str(findings["Prefect API"].command)
    assert findings["runs of long ago"].text == "not asked without settings"


def test_a_server_that_never_answers_is_waited_for_no_longer_than_all_have(
    prefect: Prefect,
) -> None:
    with prefect.server.fault(Fault(kind="stall", times=99, pause_seconds=60.0)):
        findings = found(seconds=1.0, PREFECT_API_URL=prefect.url)
    assert findings["Prefect API"].level == "unknown"
    assert "no answer in time" in findings["Prefect API"].text
    assert findings["variables"].level == "ok"


IMPATIENT_DOCTOR = """
from kinetic_flows.cli import main
from kinetic_flows.runs.doctor import examine
examine.__kwdefaults__["seconds"] = 1.0
main(["doctor", "--json"])
"""


def test_the_command_ends_though_nothing_answers_and_says_nothing_else(
    prefect: Prefect, tmp_path: Path
) -> None:
    """Threads that hang are left behind, and what libraries say of them is not shown."""
    with prefect.server.fault(Fault(kind="stall", times=99, pause_seconds=600.0)):
        ended = subprocess.run(
            [sys.executable, "-c", IMPATIENT_DOCTOR],
            env={**os.environ, "PREFECT_API_URL": prefect.url},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert (ended.returncode, ended.stderr) == (0, "")
    shown = {each["subject"]: each for each in json.loads(ended.stdout)["findings"]}
    assert shown["Prefect API"]["level"] == "unknown"
    assert shown["variables"]["level"] == "ok"


def test_prefect_that_cannot_be_imported_is_wrong_and_the_rest_is_told(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", "from kinetic_flows.cli import main; main(['doctor', '--json'])"],
        env={**os.environ, "PREFECT_API_REQUEST_TIMEOUT": "soon"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 1
    shown = {each["subject"]: each for each in json.loads(ended.stdout)["findings"]}
    assert [subject for subject, each in shown.items() if each["level"] == "wrong"] == [
        "Prefect API"
    ]
    assert "soon" in shown["Prefect API"]["text"]
    assert shown["settings"]["level"] == "ok"


def test_a_server_that_is_not_there_is_wrong_and_its_clock_unknown() -> None:
    findings = found(PREFECT_API_URL="http://127.0.0.1:9/api")
    assert findings["Prefect API"].level == "wrong"
    assert "http://127.0.0.1:9/api cannot be reached" in findings["Prefect API"].text
    assert findings["clock against Prefect"].level == "unknown"


def test_credentials_that_prefect_refuses_are_wrong(prefect: Prefect) -> None:
    with prefect.server.fault(Fault(kind="status", status=401, times=9)):
        findings = found(PREFECT_API_URL=prefect.url)
    assert findings["Prefect API"].level == "wrong"
    assert "PREFECT_API_KEY" in findings["Prefect API"].text


def test_a_profile_in_a_server_that_does_not_run_is_unknown(tmp_path: Path) -> None:
    database = tmp_path / "kinetic-home" / "prefect" / "prefect.db"
    database.parent.mkdir(parents=True)
    database.touch()
    settings = found(KINETIC_PROFILE="team")["settings"]
    assert (settings.level, settings.command) == ("unknown", "kinetic server start")


@pytest.mark.parametrize(
    ("server", "fits"),
    [
        (PREFECT, True),
        ("", True),
        ("3.99.0", True),
        ("3.1.0", False),
        ("2.20.1", False),
        ("4.0.0", False),
        ("3.8.0", True),
        ("of my own", True),
    ],
)
def test_a_server_is_as_new_as_its_clients(server: str, fits: bool) -> None:
    assert version_difference(server)[0] is fits


@pytest.mark.parametrize(
    ("seconds", "level", "said"),
    [
        (0.0, "ok", "within"),
        (20.0, "ok", "within 20 s"),
        (-20.0, "ok", "within"),
        (100.0, "warning", "behind"),
        (-100.0, "warning", "ahead of"),
        (4000.0, "wrong", "behind"),
        (-4000.0, "wrong", "1 h 6 min"),
    ],
)
def test_a_clock_is_told_by_how_far_it_is_off(seconds: float, level: str, said: str) -> None:
    told = ServerTime(
        server="Google",
        date=formatdate(1_000_000 + seconds, usegmt=True),
        asked_at=1_000_000.0,
        answered_at=1_000_001.0,
    )
    finding = clock_finding(told)
    assert finding.level == level
    assert said in finding.text
    assert (finding.command is None) == (level == "ok")


def test_a_server_that_tells_no_time_leaves_the_clock_unknown() -> None:
    told = ServerTime(server="Google", date="", asked_at=1.0, answered_at=2.0)
    assert clock_finding(told).level == "unknown"


def test_a_slow_answer_is_no_wrong_clock() -> None:
    date = formatdate(1_000_000, usegmt=True)
    told = ServerTime(server="Google", date=date, asked_at=999_900.0, answered_at=1_000_100.0)
    assert clock_finding(told).level == "ok"


def test_a_python_without_base_images_is_a_warning() -> None:
    assert python_finding((3, 12)).level == "ok"
    assert python_finding((3, 99)).level == "warning"


def test_packages_beyond_their_bounds_are_named_with_what_installs_others() -> None:
    versions = {"prefect": "3.8.8", "cloudpickle": "4.0", "uv": "0.9"}
    asked = ["prefect>=3.8.8,<3.9", "cloudpickle>=3.1,<4", "gone>=1", "uv; python_version<'3'"]
    wrong = list(package_findings(asked, versions.get))
    assert [(each.subject, each.level, each.command) for each in wrong] == [
        ("cloudpickle", "wrong", 'pip install "cloudpickle<4,>=3.1"'),
        ("gone", "wrong", 'pip install "gone>=1"'),
    ]
    assert [each.level for each in package_findings(asked[:1], versions.get)] == ["ok"]


@pytest.mark.parametrize(
    ("free", "level"),
    [(LITTLE_BYTES, "ok"), (LITTLE_BYTES - 1, "warning"), (TOO_LITTLE_BYTES - 1, "wrong")],
)
def test_a_disk_that_is_nearly_full_is_told(free: int, level: str) -> None:
    assert disk_finding(Path("/home"), free).level == level


def test_a_home_that_is_not_there_yet_is_well_where_it_can_be_made(tmp_path: Path) -> None:
    assert home_finding(tmp_path / "new" / "home").level == "ok"
    (tmp_path / "file").touch()
    assert home_finding(tmp_path / "file" / "home").level == "wrong"


def test_uv_that_cannot_be_started_is_wrong(tmp_path: Path, monkeypatch) -> None:
    assert uv_finding(os.environ).level == "ok"
    broken = tmp_path / "uv"
    broken.write_text("#!/bin/sh\necho no such library >&2\nexit 127\n")
    broken.chmod(0o755)
    monkeypatch.setattr("uv.find_uv_bin", lambda: str(broken))
    finding = uv_finding(os.environ)
    assert (finding.level, finding.command) == ("wrong", "pip install --force-reinstall uv")
    assert "no such library" in finding.text
    broken.write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr("kinetic_flows.runs.client_checks.UV_SECONDS", 0.01)
    assert uv_finding(os.environ).level == "unknown"


def dead_client(home: Path) -> str:
    """Leave the record of a client that has died; return the run that it drove."""
    run_id, clients = str(uuid4()), home / "clients"
    clients.mkdir(parents=True, exist_ok=True)
    process = {**current_process().__dict__, "pid": 2**22 - 1, "started": "0"}
    (clients / f"{run_id}.json").write_text(json.dumps(process))
    return run_id


def test_runs_of_dead_clients_and_states_that_wait_are_told(tmp_path: Path) -> None:
    home = tmp_path / "kinetic-home"
    dead_client(home)
    ledger = ClientLedger(home / "clients")
    ledger.enter(str(uuid4()))
    ledger.add_pending_update("http://127.0.0.1:9/api", str(uuid4()), "FAILED", "it did")
    findings = found()
    assert "1 run that nobody drives" in findings["runs of dead clients"].text
    assert "1 final state could not be told" in findings["states for Prefect"].text


def test_environments_that_nobody_makes_any_more_are_removed(tmp_path: Path) -> None:
    environments = tmp_path / "kinetic-home" / "environments"
    left = environments / ".making-abc-0123"
    made = environments / ".making-def-0123"
    damaged = environments / "ghi"
    for each in (left, made, damaged):
        each.mkdir(parents=True)
    with exclusive_lock(environments / ".def.lock"):
        findings = found()
        for subject in ("half-made environments", "damaged environments"):
            fix = findings[subject].fix
            assert fix is not None
            assert fix() == "removed 1 environment"
    assert not left.exists()
    assert not damaged.exists()
    assert made.exists(), "somebody makes it"
    assert levels(found())["damaged environments"] == "ok"


def test_an_environment_that_is_made_again_is_left_alone(tmp_path: Path) -> None:
    environment = tmp_path / "my home" / "environments" / "abc"
    environment.mkdir(parents=True)
    _, damaged = environment_findings(environment.parent)
    assert shlex.split(str(damaged.command)) == ["rm", "-rf", str(environment)]
    (environment / "bin").mkdir()
    (environment / "bin" / "python").touch()
    assert damaged.fix is not None
    assert damaged.fix() == "removed 0 environments"
    assert environment.exists()


def test_leases_of_builds_whose_client_has_died_are_given_back(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    for name in ("abandoned", "given-back"):
        lease = Lease(store, lease_object(name))
        assert lease.acquire()
        assert lease.record_build("build-7")
    store.replace_if_unchanged(
        lease_object("given-back"),
        LeaseRecord(holder="", fencing=1).to_json(),
        store.get(lease_object("given-back")).generation,
    )
    store.put_if_absent("leases/abandoned/follower.json", b"{}")
    later = datetime.now(UTC) + timedelta(hours=1)
    assert abandoned(store) == {}, "its holder may live"
    left = abandoned(store, later)
    assert list(left) == [lease_object("abandoned")]
    assert give_back(store, left) == "gave 1 lease back"
    assert abandoned(store, later) == {}
    taken = Lease(store, lease_object("abandoned"))
    assert taken.acquire(), "nobody has to wait for it"
    assert taken.build == "build-7", "it may go on"
    assert give_back(store, left) == "gave 0 leases back", "somebody else has it"
    assert taken.renew()


def test_what_cannot_be_asked_for_one_reason_is_on_one_line(capsys) -> None:
    report = DoctorReport()
    for subject in ("APIs", "bucket"):
        report.show(
            "Google Cloud",
            Finding(subject=subject, level="unknown", text="not asked without credentials"),
        )
    for subject in ("uv", "Python"):
        report.show("client", Finding(subject=subject, level="ok", text="fine"))
    report.show("cluster", Finding(subject="GKE", level="unknown", text="no answer"))
    report.finish()
    assert capsys.readouterr().out.splitlines() == [
        "Google Cloud",
        "  unknown  APIs, bucket: not asked without credentials",
        "client",
        "  ok       uv: fine",
        "  ok       Python: fine",
        "cluster",
        "  unknown  GKE: no answer",
    ]


def test_the_command_fixes_tells_so_and_looks_again(tmp_path: Path, capsys) -> None:
    (tmp_path / "kinetic-home" / "environments" / ".making-abc-0123").mkdir(parents=True)
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--fix", "--json"])
    shown = json.loads(capsys.readouterr().out)
    assert ended.value.code == 0
    assert shown["fixed"] == {"half-made environments": "removed 1 environment"}
    assert shown["warning"] == shown["wrong"] == 0


def test_nothing_is_mended_by_a_clock_that_is_wrong(
    prefect: Prefect, tmp_path: Path, monkeypatch, capsys
) -> None:
    left = tmp_path / "kinetic-home" / "environments" / ".making-abc-0123"
    left.mkdir(parents=True)
    prefect.server.clock_offset_seconds = -4000.0
    monkeypatch.setenv("PREFECT_API_URL", prefect.url)
    with pytest.raises(SystemExit):
        main(["doctor", "--fix", "--json"])
    assert list(json.loads(capsys.readouterr().out)["fixed"]) == ["clock against Prefect"]
    assert left.exists()


def test_the_command_exits_with_1_when_something_is_wrong(monkeypatch, capsys) -> None:
    monkeypatch.setenv("KINETIC_PLATFORM", "mars")
    with pytest.raises(SystemExit) as ended:
        main(["doctor"])
    shown = capsys.readouterr().out
    assert ended.value.code == 1
    assert "  wrong    settings: KINETIC_PLATFORM is 'mars'; valid: gke, local\n" in shown
    assert "\nPrefect\n" in shown
    assert "1 wrong, " in shown


def test_a_check_that_fails_by_our_own_fault_is_unknown(monkeypatch) -> None:
    def fail(_: object) -> tuple[Check, ...]:
        return (Check(group="cluster", subject="fault", look=lambda: [1 / 0]),)  # type: ignore[list-item]

    monkeypatch.setattr("kinetic_flows.runs.doctor.platform_checks", fail)
    finding = found()["fault"]
    assert (finding.level, "ZeroDivisionError" in finding.text) == ("unknown", True)


def test_what_several_need_is_asked_once_and_fails_for_all() -> None:
    asked: list[int] = []

    def ask() -> int:
        asked.append(1)
        raise UsageError("no")

    fact = Fact("an answer", ask)

    def need() -> None:
        with pytest.raises(NotAsked, match="not asked without an answer"):
            fact.need()

    threads = [threading.Thread(target=need) for _ in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with pytest.raises(UsageError):
        fact.get()
    assert asked == [1]


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("see `kinetic server env`", "kinetic server env"),
        (
            "log in with: gcloud auth application-default login",
            "gcloud auth application-default login",
        ),
        ("is this network among the authorised networks?", None),
        ("check `PREFECT_API_URL`", None),
    ],
)
def test_the_command_of_a_hint_is_found(text: str, command: str | None) -> None:
    assert command_in(text) == command
    finding = finding_of("x", KineticError("it failed", hint=text))
    assert finding.command == command
    assert (text in finding.text) == (command is None)


def test_a_hint_that_says_more_than_its_command_is_said_whole() -> None:
    hint = "list them with: gcloud projects list; make one, or ask its owner for a role"
    finding = finding_of("x", KineticError("it failed", hint=hint))
    assert finding.command == "gcloud projects list"
    assert finding.text == f"it failed; {hint}"


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (LaunchError("no answer"), True),
        (PrefectServerError("no answer"), True),
        (known_to_doctor(ConfigurationError("there are no credentials")), True),
        (ConfigurationError("KINETIC_ZONE is 7"), False),
        (UsageError("a bad argument"), False),
    ],
)
def test_an_error_that_doctor_may_explain_says_so_once(error: KineticError, says: bool) -> None:
    from kinetic_flows.core.api_boundary import at_api_boundary

    @at_api_boundary
    def fail() -> None:
        raise error

    for _ in range(2):
        with pytest.raises(KineticError):
            fail()
    notes = getattr(error, "__notes__", [])
    assert len(notes) == int(says)
    assert all("`kinetic doctor`" in note for note in notes)


def test_a_command_that_fails_says_that_doctor_tells_more(monkeypatch, capsys) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    monkeypatch.setenv("PREFECT_CLIENT_MAX_RETRIES", "0")
    with pytest.raises(SystemExit):
        main(["pool", "show", "--no-cluster"])
    assert "\n  `kinetic doctor` looks at all" in capsys.readouterr().err
