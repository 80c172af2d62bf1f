"""A function that runs on the first of several accelerators that can be had.

    python examples/first_to_be_had.py

On a cluster the run goes on Spot VMs where there are any, else on what costs more, and after ten
minutes without either on the CPU. With nothing configured it is this machine's CPU at once.
"""

import kinetic


@kinetic.run(
    accelerator=["tpu-v6e-8:spot", "tpu-v6e-8", "l4", "cpu"],
    fallback_after_seconds=600,
    requirements=["jax"],
)
def where(size: int) -> str:
    import jax
    import jax.numpy as jnp

    total = jnp.ones((size, size)).sum()
    return f"summed {int(total)} ones on {jax.device_count()} x {jax.devices()[0].device_kind}"


if __name__ == "__main__":
    print(where.plan(1024))
    print(where(1024))
