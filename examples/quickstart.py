"""The first five minutes: two functions that run elsewhere, with packages they bring along.

    python examples/quickstart.py

With nothing configured, "elsewhere" is an environment of its own on this machine.
"""

import kinetic


@kinetic.run(accelerator="cpu", requirements=["humanize==4.12.3"])
def describe(count: int) -> str:
    import humanize  # in the run's environment; it need not be installed here

    print(f"counting to {count} in Python's own words ...")
    return humanize.intword(sum(range(count + 1)))


@kinetic.run(accelerator="cpu", requirements=["humanize==4.12.3"])
def fail(reason: str) -> None:
    raise ValueError(reason)


if __name__ == "__main__":
    print("describe(1_000_000) =", describe(1_000_000))

    run = describe.submit(2_000)
    print(f"submitted {run.id}\n  watch it at {run.url}")
    print("result:", run.result())

    try:
        fail("this is what a failure looks like")
    except ValueError as error:
        print("raised here as it was raised there:", repr(error))
