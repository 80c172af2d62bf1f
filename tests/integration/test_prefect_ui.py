"""What people see of runs in the Prefect UI, looked at with a real browser."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import keep_picture, lengthened, linger, narrowed, open_page, open_tab
from playwright.sync_api import Page, expect
from prefect_workers import RunningWorker
from projects import Project, make_project

from kinetic_flows.clients.prefect.server import BackgroundServer

DEPLOYED = '''
    import time

    import kinetic

    @kinetic.run(requirements=[])
    def evaluate(rate: float, steps: int = 3) -> float:
        """Evaluate a model.

        Args:
            rate: The learning rate.
            steps: How many batches are looked at.
        """
        print(f"evaluating {steps} batches")
        return rate * steps

    @kinetic.run(requirements=[])
    def wait_for_ever() -> None:
        print("waiting", flush=True)
        time.sleep(600)

    if __name__ == "__main__":
        nightly = evaluate.deploy("nightly", parameters={"rate": 0.5}, cron="0 2 * * *")
        measured = wait_for_ever.with_options(capture_env_vars=["KINETIC_METRICS"])
        print(nightly.id, wait_for_ever.deploy("once").run().url, measured.submit().url)
'''

TRAINING = """
    import os, signal, time
    from pathlib import Path

    import kinetic

    @kinetic.run(accelerator="cpu", requirements=[], capture_env_vars=["GATE"])
    def train(learning_rate: float, epochs: int) -> float:
        loss = 1.0
        for epoch in range(epochs):
            loss *= 1 - learning_rate
            print(f"epoch {epoch}: loss {loss:.3f}", flush=True)
        kept = []
        while not Path(os.environ["GATE"]).exists():
            kept.append(bytes(200_000))
            sum(range(20_000 * (len(kept) % 100)))
            time.sleep(0.1)
        return loss

    @kinetic.run(accelerator="cpu", requirements=[])
    def crash() -> None:
        print("a library of C goes wrong", flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)

    if __name__ == "__main__":
        run = train.submit(0.1, 3)
        print(run.url, flush=True)
        print(run.result())
        print(crash.submit().url, flush=True)
"""


@pytest.fixture(scope="module")
def page(prefect_server: BackgroundServer) -> Iterator[Page]:
    """A browser that was let in by a link, which leads to the UI's first page."""
    record = prefect_server.status()
    assert record is not None
    with open_page() as page:
        page.goto(prefect_server.sign_in_url(record))
        page.wait_for_url("**/dashboard**")
        yield page


@pytest.fixture
def project(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prefect_api_url: str,
    shared_kinetic_home: Path,
) -> Project:
    monkeypatch.setenv("KINETIC_HOME", str(shared_kinetic_home))
    return make_project(
        tmp_path / "project", monkeypatch, {"train.py": TRAINING, "deployed.py": DEPLOYED}
    )


def test_a_person_watches_a_run_from_its_first_line_to_its_result_and_sees_why_one_crashed(
    project: Project, page: Page, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    script = project.start("train.py", GATE=str(gate))
    page.goto(_url_printed_by(script))
    expect(page.get_by_text("Running", exact=True).first).to_be_visible()
    expect(page.get_by_text("epoch 2: loss 0.729")).to_be_visible()
    keep_picture(page, "timeline-of-a-call")
    with lengthened(page):
        keep_picture(page, "run-while-it-runs")
    linger(page)
    gate.touch()
    expect(page.get_by_text("Completed", exact=True).first).to_be_visible()
    for tag in ("kinetic", "cpu", "bundled"):
        expect(page.get_by_text(tag, exact=True).first).to_be_visible()
    expect(page.get_by_text("returned float: 0.729")).to_be_visible()
    open_tab(page, "Parameters")
    expect(page.get_by_text('"learning_rate"')).to_be_visible()
    open_tab(page, "Details")
    expect(page.get_by_text("returned float: 0.729").first).to_be_visible()
    open_tab(page, "Artifacts")
    run_page = page.url
    page.locator(".artifact-card").get_by_text("run", exact=True).click()
    for section in ("What ran", "Details"):
        expect(page.get_by_role("heading", name=section)).to_be_visible()
    expect(page.get_by_text("train(learning_rate=0.1, epochs=3)").first).to_be_visible()
    expect(page.get_by_text("CPU only").first).to_be_visible()
    with lengthened(page):
        keep_picture(page, "what-a-run-is")
    page.goto(run_page)
    for step in ("lock-dependencies", "build-image", "upload-code", "launch train"):
        open_tab(page, "Task Runs")
        expect(page.get_by_text(step, exact=True).first).to_be_visible()
    value, crashed_url = script.communicate(timeout=60)[0].splitlines()[-2:]
    assert value.startswith("0.729")

    page.goto(crashed_url)
    expect(page.get_by_text("Crashed", exact=True).first).to_be_visible()
    open_tab(page, "Artifacts")
    page.locator(".artifact-card").get_by_text("run", exact=True).click()
    for section in ("What ran", "How it went", "Why it ended", "Details"):
        expect(page.get_by_role("heading", name=section)).to_be_visible()
    expect(page.get_by_text("SIGSEGV").first).to_be_visible()
    with lengthened(page):
        keep_picture(page, "why-a-run-ended")


def test_a_deployment_runs_with_what_its_form_says_and_what_waits_ends_when_cancelled(
    project: Project, page: Page, worker: RunningWorker, prefect_api_url: str
) -> None:
    deployed = project.python("deployed.py", KINETIC_METRICS="0.2")
    assert deployed.returncode == 0, deployed.stderr
    deployment_id, waiting_url, called_url = deployed.stdout.split()
    ui = prefect_api_url.removesuffix("/api")
    page.goto(f"{ui}/deployments/deployment/{deployment_id}/run")
    steps = page.locator(".schema-form-property").filter(has_text="steps")
    expect(steps.get_by_text("How many batches are looked at.")).to_be_visible()
    steps.locator("input").fill("6")
    keep_picture(page, "form-of-a-deployment")
    page.get_by_role("button", name="Submit").click()
    # A message says where the run is, too, and is gone after seconds: a slow machine misses it.
    page.locator('a[href*="/runs/flow-run/"]').first.click()
    expect(page.get_by_text("evaluating 6 batches")).to_be_visible()
    expect(page.get_by_text("Completed", exact=True).first).to_be_visible()
    open_tab(page, "Details")
    expect(page.get_by_text("returned float: 3.0").first).to_be_visible()

    page.goto(waiting_url)
    expect(page.get_by_text("waiting", exact=True).first).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Confirm").click()
    expect(page.get_by_text("Cancelled", exact=True).first).to_be_visible()

    page.goto(called_url)
    expect(page.get_by_text("waiting", exact=True).first).to_be_visible()
    expect(page.get_by_role("button", name="Cancel")).to_be_disabled()
    with narrowed(page):
        page.locator(".flow-run-menu").click()
        keep_picture(page, "cancel-in-the-menu")
        page.get_by_text("Cancel", exact=True).click()
        page.get_by_role("button", name="Confirm").click()
        expect(page.get_by_text("Cancelled", exact=True).first).to_be_visible()
    open_tab(page, "Artifacts")
    page.locator(".artifact-card").get_by_text("run", exact=True).click()
    expect(page.get_by_role("heading", name="How it went")).to_be_visible()
    expect(page.get_by_text("cancelled while the function ran").first).to_be_visible()
    picture = page.get_by_alt_text("What the run used, over time")
    picture.scroll_into_view_if_needed()
    expect(picture).to_have_js_property("naturalWidth", 720)
    keep_picture(page, "what-a-run-used")


def _url_printed_by(script: subprocess.Popen[str]) -> str:
    assert script.stdout is not None
    said = []
    for line in script.stdout:
        said.append(line)
        if line.startswith("http"):
            return line.strip()
    raise AssertionError("".join(said))
