"""What the runner tells Prefect, what it hears from it, and what it does without it."""

from __future__ import annotations

import base64
import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise
from pathlib import Path

import pytest
from kinetic_flows.runner_image.runner import prefect_api, reporter
from kinetic_flows.runner_image.runner.events import event_id

from prefect_wire import PrefectWire, serve
from runner_jobs import RUN_ID, Ended, Job, wait, wait_until


@pytest.fixture
def prefect() -> Iterator[PrefectWire]:
    with serve() as wire:
        yield wire


def _run(tmp_path: Path, url: str, source: str, **changes: object) -> tuple[Job, Ended]:
    job = Job(tmp_path / "store", source=source, changes=changes, prefect_url=url)
    return job, job.run()


SLEEPY = """
    import os, time
    def main(path):
        print("begun")
        open(path, "w").close()
        try:
            time.sleep(600)
        finally:
            print("cleaned up")
"""


def _start_sleepy(tmp_path: Path, url: str, source: str = SLEEPY) -> tuple[Job, object]:
    marker = tmp_path / "begun"
    job = Job(tmp_path / "store", source=source, args=(str(marker),), prefect_url=url)
    process = job.start()
    wait_until(marker.exists)
    return job, process


@pytest.mark.parametrize(
    ("source", "changes", "final"),
    [
        ("def main(): ...", {}, ("COMPLETED", "Completed", "returned None")),
        ("def main(): 1 / 0", {}, ("FAILED", "Failed", "ZeroDivisionError: division by zero")),
        ("def main(): raise KeyError", {}, ("FAILED", "Failed", "KeyError")),
        (
            "import time\ndef main(): time.sleep(60)",
            {"timeout_seconds": 0.3},
            ("FAILED", "TimedOut", "it ran longer than 0.3 s"),
        ),
        (
            "import os\ndef main(): os._exit(3)",
            {},
            ("CRASHED", "Crashed", "its process exited with 3 while the function ran"),
        ),
    ],
)
def test_the_flow_run_is_running_and_then_what_became_of_it(
    tmp_path: Path,
    prefect: PrefectWire,
    source: str,
    changes: dict[str, object],
    final: tuple[str, str, str | None],
) -> None:
    _run(tmp_path, prefect.url, source, **changes)
    first, last = prefect.states
    assert (first["type"], first["name"]) == ("RUNNING", "Running")
    assert (last["type"], last["name"], last["message"]) == final
    assert any(RUN_ID in path for _, path, _ in prefect.requests)


def test_an_unpicklable_value_is_a_failure(tmp_path: Path, prefect: PrefectWire) -> None:
    _run(tmp_path, prefect.url, "import threading\ndef main(): return threading.Lock()")
    assert prefect.states[-1]["type"] == "FAILED"
    assert "_thread.lock, which cannot be pickled" in prefect.states[-1]["message"]


def test_a_failed_phase_before_the_function_is_a_crash(
    tmp_path: Path, prefect: PrefectWire
) -> None:
    _, ended = _run(tmp_path, prefect.url, "def main(): ...", python="3.1")
    assert ended.exit_code == 43
    assert prefect.states[-1]["type"] == "CRASHED"
    assert "made by Python 3.1" in prefect.states[-1]["message"]


def test_a_long_message_is_cut_for_the_state(tmp_path: Path, prefect: PrefectWire) -> None:
    job, _ = _run(tmp_path, prefect.url, "def main(): raise ValueError('x' * 5000)")
    assert len(prefect.states[-1]["message"]) < 1100
    assert len(job.envelope().header.message) == 5000


def test_a_retried_function_stays_running_under_another_name(
    tmp_path: Path, prefect: PrefectWire
) -> None:
    _run(tmp_path, prefect.url, "def main(): raise ValueError('no')", retries=1)
    assert [(state["type"], state["name"]) for state in prefect.states] == [
        ("RUNNING", "Running"),
        ("RUNNING", "Retrying"),
        ("FAILED", "Failed"),
    ]
    assert prefect.states[1]["message"] == "try 1 of 2 raised ValueError: no"


def test_a_second_start_reports_the_state_of_the_first_ones_result(
    tmp_path: Path, prefect: PrefectWire
) -> None:
    job, _ = _run(tmp_path, prefect.url, "def main(): raise ValueError('no')")
    prefect.states.clear()
    job.again()
    assert [(state["type"], state["message"]) for state in prefect.states] == [
        ("FAILED", "ValueError: no")
    ]


def test_a_run_that_starts_again_tells_of_it_once_and_names_what_it_runs_on(
    tmp_path: Path, prefect: PrefectWire
) -> None:
    prefect.labels = {"kinetic.function": "train", "kinetic.accelerator": "l4:spot"}
    job, _ = _run(tmp_path, prefect.url, "def main(): ...")
    assert prefect.events == [], "of a first start there is nothing to tell"
    job.result_path.unlink()
    job.again()
    [event] = prefect.events
    assert event["event"] == "kinetic.run.preempted"
    assert event["id"] == event_id(RUN_ID, "preempted", "1")
    assert event["resource"] == {
        "prefect.resource.id": f"prefect.flow-run.{RUN_ID}",
        "prefect.resource.name": "train()",
        "kinetic.function": "train",
        "kinetic.accelerator": "l4:spot",
    }
    assert event["payload"]["restarts"] == 1


@pytest.mark.parametrize("code", [404, 422, 503])
def test_an_api_that_takes_no_events_changes_nothing_for_a_run(
    tmp_path: Path, prefect: PrefectWire, code: int
) -> None:
    job, _ = _run(tmp_path, prefect.url, "def main(): ...")
    job.result_path.unlink()
    prefect.states.clear()
    prefect.failures = {"/api/events": [code] * 20}
    assert job.again().exit_code == 0
    assert prefect.state_names == ["Running", "Completed"]


def test_what_is_in_front_of_the_api_does_not_know_that_a_flow_run_is_gone(
    prefect: PrefectWire,
) -> None:
    api = prefect_api.PrefectApi(prefect.url, RUN_ID, {})
    prefect.current_type = ""
    assert api.read_state_of(RUN_ID, 5.0) is None

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Proxy) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/api"
        with pytest.raises(prefect_api.ApiError, match="HTTP 404: <"):
            prefect_api.PrefectApi(url, RUN_ID, {}).read_state_of(RUN_ID, 5.0)


def test_a_host_that_is_not_the_first_reports_its_failure_only(
    tmp_path: Path, prefect: PrefectWire
) -> None:
    source = "def main():\n print('hi')\n raise ValueError('no')"
    job = Job(tmp_path / "store", source=source, prefect_url=prefect.url, changes={"hosts": 2})
    job.run(JOB_COMPLETION_INDEX="1")
    assert [(state["type"], state["message"]) for state in prefect.states] == [
        ("FAILED", "ValueError: host 1: no")
    ]
    assert prefect.messages[0] == "[host 1] hi"


def test_a_host_that_is_not_the_first_completes_silently(
    tmp_path: Path, prefect: PrefectWire
) -> None:
    job = Job(tmp_path / "store", source="def main(): ...", prefect_url=prefect.url)
    job.changes = {"hosts": 2}
    job.run(JOB_COMPLETION_INDEX="1")
    assert prefect.states == []


class TestLogs:
    def test_lines_that_come_at_once_have_times_that_prefect_tells_apart(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reporter.time, "time", lambda: 1_795_740_000.000_000_7)
        lines = reporter._WaitingLines()
        lines.add([str(number) for number in range(5000)], 20, "kinetic")
        times = [prefect_api._iso(entry.seconds) for _ in range(25) for entry in lines.take()]
        assert len(times) == 5000
        assert all(one < other for one, other in pairwise(times))

    def test_both_streams_arrive_in_order_with_times_that_keep_it(
        self, tmp_path: Path, prefect: PrefectWire
    ) -> None:
        source = """
            import sys
            def main():
                for number in range(300):
                    print(number, file=sys.stderr if number % 2 else sys.stdout)
        """
        _, ended = _run(tmp_path, prefect.url, source)
        assert prefect.messages == [str(number) for number in range(300)]
        logs = [log for batch in prefect.batches for log in batch]
        assert all(one["timestamp"] < other["timestamp"] for one, other in pairwise(logs))
        assert {log["flow_run_id"] for log in logs} == {RUN_ID}
        assert {log["level"] for log in logs} == {20}
        assert ended.output.splitlines() == prefect.messages

    def test_batches_have_at_most_200_lines(self, tmp_path: Path, prefect: PrefectWire) -> None:
        _run(tmp_path, prefect.url, "def main():\n for n in range(1000): print(n)")
        assert max(len(batch) for batch in prefect.batches) <= 200
        assert len(prefect.messages) == 1000

    def test_lines_arrive_while_the_function_runs(
        self, tmp_path: Path, prefect: PrefectWire
    ) -> None:
        _, process = _start_sleepy(tmp_path, prefect.url)
        wait_until(lambda: prefect.messages == ["begun"], seconds=2)
        process.kill()  # type: ignore[attr-defined]
        wait(process)  # type: ignore[arg-type]

    def test_the_last_line_comes_before_the_last_state(
        self, tmp_path: Path, prefect: PrefectWire
    ) -> None:
        _run(tmp_path, prefect.url, "def main(): print('end', end='')")
        paths = [path.rpartition("/api/")[2] for _, path, _ in prefect.requests]
        assert paths[-2:] == ["logs/", f"flow_runs/{RUN_ID}/set_state"]
        assert prefect.messages == ["end"]

    @pytest.mark.parametrize("printed", ["pass", "print('epoch 1')"])
    def test_what_a_run_returned_is_the_last_line_of_its_log(
        self, tmp_path: Path, prefect: PrefectWire, printed: str
    ) -> None:
        _run(tmp_path, prefect.url, f"def main():\n {printed}\n return 0.93")
        assert prefect.results == ["returned float: 0.93"]
        assert prefect.batches[-1][-1]["message"] == prefect.results[0]

    def test_a_run_that_returned_nothing_says_nothing_of_a_result(
        self, tmp_path: Path, prefect: PrefectWire
    ) -> None:
        _run(tmp_path, prefect.url, "def main(): raise ValueError('bad')")
        assert prefect.results == []

    def test_what_prefect_cannot_store_is_made_fit(
        self, tmp_path: Path, prefect: PrefectWire
    ) -> None:
        source = r"""
            import sys
            def main():
                out = sys.stdout.buffer
                out.write(b"nul \0 and \xff\xfe bytes\n")
                out.write("é".encode() * 30_000 + b"\n")
                out.write(b"x" * 100_000 + b"\n")
        """
        _run(tmp_path, prefect.url, source)
        assert prefect.messages[0] == "nul \ufffd and \ufffd\ufffd bytes"
        assert "".join(prefect.messages[1:]) == "é" * 30_000 + "x" * 100_000

        assert max(len(json.dumps(message)) for message in prefect.messages) < 24_500

    def test_of_a_progress_bar_the_last_state_counts(
        self, tmp_path: Path, prefect: PrefectWire
    ) -> None:
        source = r"""
            import sys
            def main():
                for percent in range(101):
                    sys.stderr.write(f"\r{percent}%")
                sys.stderr.write("\ndone\r\n")
        """
        _run(tmp_path, prefect.url, source)
        assert prefect.messages == ["100%", "done"]

    def test_a_batch_that_is_refused_for_good_is_not_sent_again(
        self, tmp_path: Path, prefect: PrefectWire
    ) -> None:
        prefect.failures["/api/logs/"] = [422]
        _, ended = _run(tmp_path, prefect.url, "def main(): print('hello')")
        assert "hello" not in prefect.messages
        assert "HTTP 422" in ended.output
        assert prefect.state_names == ["Running", "Completed"]

    def test_a_batch_that_failed_is_sent_again(self, tmp_path: Path, prefect: PrefectWire) -> None:
        prefect.failures["/api/logs/"] = [503, 429]
        _, ended = _run(tmp_path, prefect.url, "def main(): print('hello')")
        assert prefect.messages[0] == "hello"
        assert ended.output.count("the Prefect API cannot be used") == 1

    def test_what_is_too_much_for_a_slow_api_is_left_out_and_counted(
        self, tmp_path: Path, prefect: PrefectWire
    ) -> None:
        prefect.failures["/api/logs/"] = [503] * 6
        _, ended = _run(
            tmp_path, prefect.url, "def main():\n for n in range(30_000): print(n, 'x' * 1000)"
        )
        assert ended.output.count("\n") >= 30_000
        missing = [text for text in prefect.messages if "lines are missing here" in text]
        assert missing
        assert prefect.messages[-1].startswith("29999 ")
        assert prefect.state_names[-1] == "Completed"


class TestCredentials:
    def test_an_api_key_is_sent_as_a_bearer_token(
        self, tmp_path: Path, prefect: PrefectWire
    ) -> None:
        prefect.wanted_authorization = "Bearer pnu_123"
        job = Job(tmp_path / "store", source="def main(): ...", prefect_url=prefect.url)
        job.run(PREFECT_API_KEY="pnu_123")
        assert prefect.state_names == ["Running", "Completed"]

    def test_basic_authentication_comes_first(self, tmp_path: Path, prefect: PrefectWire) -> None:
        prefect.wanted_authorization = "Basic " + base64.b64encode("ann:pässword".encode()).decode()
        job = Job(tmp_path / "store", source="def main(): ...", prefect_url=prefect.url)
        job.run(PREFECT_API_KEY="pnu_123", PREFECT_API_AUTH_STRING="ann:pässword")
        assert prefect.state_names == ["Running", "Completed"]

    def test_wrong_credentials_are_one_warning_that_does_not_show_them(
        self, tmp_path: Path, prefect: PrefectWire
    ) -> None:
        prefect.wanted_authorization = "Bearer right"
        job = Job(tmp_path / "store", source="def main(): return 1", prefect_url=prefect.url)
        ended = job.run(PREFECT_API_KEY="wrong-one")
        assert job.value() == 1
        assert ended.output.count("HTTP 401") == 1
        assert "wrong-one" not in ended.output

    def test_a_server_protected_against_forged_requests_gets_its_token(
        self, tmp_path: Path, prefect: PrefectWire
    ) -> None:
        prefect.wants_csrf = True
        _, ended = _run(tmp_path, prefect.url, "def main(): print('hello')")
        assert prefect.state_names == ["Running", "Completed"]
        assert prefect.messages == ["hello"]
        assert prefect.csrf_tokens == 1
        assert "cannot be used" not in ended.output

    def test_a_token_that_has_expired_is_renewed(
        self, tmp_path: Path, prefect: PrefectWire
    ) -> None:
        prefect.wants_csrf = True
        _, process = _start_sleepy(tmp_path, prefect.url)
        wait_until(lambda: prefect.messages == ["begun"])
        prefect.csrf_tokens += 1
        process.terminate()  # type: ignore[attr-defined]
        wait(process)  # type: ignore[arg-type]
        assert "cleaned up" in prefect.messages


class TestWithoutPrefect:
    def test_an_api_that_cannot_be_reached_is_one_warning(self, tmp_path: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{free.getsockname()[1]}/api"
        source = "import time\ndef main():\n for n in range(3):\n  print(n); time.sleep(0.7)"
        job, ended = _run(tmp_path, url, source)
        assert (ended.exit_code, job.envelope().header.status) == (0, "returned")
        assert ended.output.count("kinetic:") == 1
        assert "the Prefect API cannot be used, the run goes on without" in ended.output
        assert ended.seconds < 5

    def test_an_api_that_never_answers_holds_nothing_up(self, tmp_path: Path) -> None:
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            url = f"http://127.0.0.1:{silent.getsockname()[1]}/api"
            job, ended = _run(tmp_path, url, "def main(): return time()\nfrom time import time")
        assert ended.exit_code == 0
        assert time.time() - job.value() > 1
        assert ended.seconds < 15

    def test_a_function_is_stopped_by_sigterm_without_an_api(self, tmp_path: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{free.getsockname()[1]}/api"
        _, process = _start_sleepy(tmp_path, url)
        process.terminate()  # type: ignore[attr-defined]
        ended = wait(process)  # type: ignore[arg-type]
        assert ended.exit_code == 143
        assert ended.seconds < 5


class TestStopping:
    def test_a_cancellation_is_noticed_and_the_function_may_clean_up(
        self, tmp_path: Path, prefect: PrefectWire
    ) -> None:
        job, process = _start_sleepy(tmp_path, prefect.url)
        prefect.cancel()
        ended = wait(process)  # type: ignore[arg-type]
        assert ended.seconds < 10
        assert ended.exit_code == 130
        assert job.envelope().header.status == "cancelled"
        assert prefect.state_names == ["Running", "Cancelled"]
        last = "kinetic: cancelled while the function ran"
        assert prefect.messages == ["begun", "cleaned up", last]

    def test_a_function_that_will_not_stop_is_killed_after_the_grace(
        self, tmp_path: Path, prefect: PrefectWire
    ) -> None:
        source = """
            import signal, time
            def main(path):
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                open(path, "w").close()
                time.sleep(600)
        """
        marker = tmp_path / "begun"
        job = Job(tmp_path / "store", source=source, args=(str(marker),), prefect_url=prefect.url)
        job.changes = {"grace_seconds": 0.3}
        process = job.start()
        wait_until(marker.exists)
        prefect.cancel()
        assert wait(process).exit_code == 130

    def test_a_run_cancelled_before_it_began_does_not_begin(
        self, tmp_path: Path, prefect: PrefectWire
    ) -> None:
        prefect.cancel()
        source = "import time\ndef main():\n time.sleep(600)"
        job, ended = _run(tmp_path, prefect.url, source)
        assert ended.exit_code == 130
        assert job.envelope().header.status == "cancelled"

    def test_a_cancellation_during_a_pause_between_tries_is_noticed(
        self, tmp_path: Path, prefect: PrefectWire
    ) -> None:
        job = Job(tmp_path / "store", source="def main(): raise ValueError")
        job.prefect_url = prefect.url
        job.changes = {"retries": 1, "retry_delay_seconds": 600.0}
        process = job.start()
        wait_until(lambda: "Retrying" in prefect.state_names)
        prefect.cancel()
        assert wait(process).exit_code == 130

    def test_sigterm_stops_the_function_and_leaves_the_state_to_others(
        self, tmp_path: Path, prefect: PrefectWire
    ) -> None:
        job, process = _start_sleepy(tmp_path, prefect.url)
        process.terminate()  # type: ignore[attr-defined]
        ended = wait(process)  # type: ignore[arg-type]
        assert ended.exit_code == 143
        assert not job.result_path.exists()
        assert prefect.state_names == ["Running"]
        last = "kinetic: terminated while the function ran"
        assert prefect.messages == ["begun", "cleaned up", last]

    def test_sigterm_for_a_run_that_is_cancelled_ends_it_as_cancelled_at_once(
        self, tmp_path: Path, prefect: PrefectWire
    ) -> None:
        job, process = _start_sleepy(tmp_path, prefect.url)
        prefect.cancel()
        process.send_signal(signal.SIGTERM)  # type: ignore[attr-defined]
        ended = wait(process)  # type: ignore[arg-type]
        assert (ended.exit_code, prefect.state_names[-1]) == (130, "Cancelled")
        assert job.envelope().header.status == "cancelled"

    def test_a_function_that_ends_well_when_asked_to_stop_has_returned(
        self, tmp_path: Path, prefect: PrefectWire
    ) -> None:
        source = """
            import signal, time
            def main(path):
                asked = []
                signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
                open(path, "w").close()
                while not asked:
                    time.sleep(0.01)
                return "checkpointed"
        """
        job, process = _start_sleepy(tmp_path, prefect.url, source)
        process.terminate()  # type: ignore[attr-defined]
        assert wait(process).exit_code == 0  # type: ignore[arg-type]
        assert job.value() == "checkpointed"
        assert prefect.state_names == ["Running", "Completed"]
