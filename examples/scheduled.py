"""A function for schedules, in both ways.

    python examples/scheduled.py        # a deployment whose runs start the function directly
    kinetic prefect deploy --prefect-file examples/prefect.yaml --all

The second deploys `report_flow`: its runs plan, package, build and launch each time, from
wherever the worker has this project, and so always run the project as it is then.
"""

import kinetic


@kinetic.run(accelerator="cpu", requirements=["humanize==4.12.3"])
def report(count: int = 1_000_000) -> str:
    """Report on a count.

    Args:
        count: What to report on.
    """
    import humanize

    print(f"reporting on {count} ...")
    return humanize.intword(count)


report_flow = report.as_flow()

if __name__ == "__main__":
    deployment = report.deploy("nightly-report", cron="0 2 * * *", timezone="Europe/Berlin")
    print(f"{deployment.name}: {deployment.change}")
    print(f"start a worker with: {deployment.worker_command}")
