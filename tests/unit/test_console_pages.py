"""Where Google Cloud's console shows a run."""

from __future__ import annotations

from urllib.parse import unquote

from kinetic_flows.core.settings.settings import load_settings, resolve_settings
from kinetic_flows.platforms.gke.console import run_pages
from kinetic_flows.platforms.gke.names import first_job_name

RUN = "0d2c6c69-23b8-432c-96c1-90dc74d0f11a"


class NoProfiles:
    def load(self, name: str) -> None: ...

    def names(self) -> tuple[str, ...]:
        return ()


def test_a_run_has_pages_for_its_job_its_output_and_its_objects() -> None:
    environ = {"KINETIC_PROJECT": "acme-ml-1", "KINETIC_ZONE": "us-east1-b", "KINETIC_HOME": "/h"}
    settings = resolve_settings(load_settings(environ), NoProfiles(), environ=environ)
    cloud = settings.required_cloud()
    pages = run_pages(cloud, RUN, "default", first_job_name("train", RUN, 1))
    console = "https://console.cloud.google.com"
    assert pages["Job"] == (
        f"{console}/kubernetes/job/us-east1-b/kinetic-cluster/default/train-{RUN}/details"
        "?project=acme-ml-1"
    )
    assert unquote(pages["pod logs"]) == (
        f'{console}/logs/query;query=resource.type="k8s_container"\n'
        f'labels."k8s-pod/prefect_io/flow-run-id"="{RUN}"?project=acme-ml-1'
    )
    assert pages["bucket"] == f"{console}/storage/browser/{cloud.jobs_bucket}/runs/{RUN}"
    assert "Job" not in run_pages(cloud, RUN, "default", None)
    of_slices = run_pages(cloud, RUN, "default", first_job_name("train", RUN, 2))
    assert f"/train-{RUN}-s0/details" in of_slices["Job"]
