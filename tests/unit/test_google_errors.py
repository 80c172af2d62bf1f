"""What Google's clients raise says what to do, in commands that say where."""

from __future__ import annotations

import pytest
from google.api_core.exceptions import Forbidden, NotFound

from kinetic_flows.clients.google.errors import BucketPlace, bucket_missing, store_error

JOBS = BucketPlace(name="my-jobs", project="my-project", location="us-central1")


@pytest.mark.parametrize(
    ("bucket", "options"),
    [
        (JOBS, " --project=my-project --location=us-central1"),
        (BucketPlace(name="my-jobs", project="my-project"), " --project=my-project"),
        (BucketPlace(name="my-jobs"), ""),
    ],
)
def test_a_missing_bucket_is_made_where_the_cluster_is(bucket: BucketPlace, options: str) -> None:
    command = f"gcloud storage buckets create gs://my-jobs{options} --uniform-bucket-level-access"
    for error in (
        bucket_missing(bucket),
        store_error(NotFound("The specified bucket does not exist."), bucket=bucket, name="a"),
    ):
        assert str(error).endswith(f"create it with: {command}")


def test_a_refusal_is_lifted_in_the_buckets_project() -> None:
    error = store_error(Forbidden("no"), bucket=JOBS, name="a")
    assert "gs://my-jobs --project=my-project --member=user:YOU" in str(error)
