"""Names of flows and tasks, and keys of artifacts, as they are in Prefect."""

from __future__ import annotations

PARENT_FLOW = "kinetic-run"
GROUP_FLOW = "kinetic-map"
DEPLOY_FLOW = "kinetic-deploy"
REHEARSE_FLOW = "kinetic-rehearse"
BUILD_IMAGE_FLOW = "kinetic-build-image"
RECONCILE_FLOW = "kinetic-reconcile"

LAUNCH_FLOW = "kinetic-launch"
"""Of what workers start for a run on one of its accelerators; `runner_image/runner/launches.py`."""

TASK_PREFLIGHT = "preflight"
TASK_LOCK_DEPENDENCIES = "lock-dependencies"
TASK_RESOLVE_IMAGE = "resolve-image"
TASK_BUILD_IMAGE = "build-image"
TASK_PREPARE_IMAGE = "prepare-image"
TASK_UPLOAD_DEPENDENCIES = "upload-dependencies"
TASK_UPLOAD_CODE = "upload-code"
TASK_RESOLVE_DATA = "resolve-data"
TASK_UPLOAD_DATA = "upload-data"
TASK_LAUNCH_ACCELERATOR = "launch-accelerator"
TASK_AWAIT_RUN = "await-run"
TASK_PIN_OBJECTS = "pin-objects"
TASK_CREATE_DEPLOYMENT = "create-deployment"
TASK_BUILD_BASE_IMAGE = "build-base-image"

STEP_RUN_INPUTS = "run-inputs"
"""What is shown of a group while its inputs run; no task, as each input is a flow run."""

RUN_ARTIFACT = "run"
"""Key of the artifact that says what a run is."""

ENVIRONMENT_ARTIFACT = "environment"
"""Key of the table of an environment's packages."""

INPUTS_ARTIFACT = "inputs"
"""Key of the table of a group's inputs, states and durations."""

REHEARSAL_ARTIFACT = "rehearsal"
"""Key of the artifact that says how steps fit accelerators."""

BASE_IMAGES_ARTIFACT = "base-images"
"""Key of the artifact that shows which base images were made."""
