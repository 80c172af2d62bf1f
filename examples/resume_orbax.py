"""Training with JAX that is killed in the middle and goes on from its checkpoint, with Orbax.

    python examples/resume_orbax.py

Kill it while it runs, however you like (Ctrl-C, `kill -9`), and call it again: `output_dir=` names
a directory of these arguments, so the second run finds what the first has left.
On a cluster that directory is a `gs://` URI, which Orbax writes to by way of gcsfs.
"""

import time

import kinetic


@kinetic.run(
    accelerator="cpu",
    requirements=["jax", "orbax-checkpoint", "gcsfs"],
    output_dir="{function}/{arguments_hash}",
)
def train(steps: int, seconds_a_step: float = 0.1) -> dict:
    import jax
    import jax.numpy as jnp
    import orbax.checkpoint as ocp

    features = jnp.arange(12.0).reshape(4, 3) / 12
    wanted = features @ jnp.array([1.0, -2.0, 3.0])

    @jax.jit
    def step(state: dict) -> dict:
        slope = jax.grad(lambda w: jnp.mean((features @ w - wanted) ** 2))(state["weights"])
        velocity = 0.9 * state["velocity"] - 0.1 * slope
        return {"weights": state["weights"] + velocity, "velocity": velocity}

    state = {"weights": jnp.zeros(3), "velocity": jnp.zeros(3)}
    begin = 0
    kept = ocp.CheckpointManagerOptions(max_to_keep=2)
    with ocp.CheckpointManager(kinetic.checkpoint_dir(), options=kept) as checkpoints:
        latest = checkpoints.latest_step()
        if latest is not None:
            state = checkpoints.restore(latest, args=ocp.args.StandardRestore(state))
            begin = latest
        print(f"beginning behind step {begin} of {steps}", flush=True)
        for number in range(begin + 1, steps + 1):
            state = step(state)
            checkpoints.save(number, args=ocp.args.StandardSave(state))
            time.sleep(seconds_a_step)  # so that there is time to kill it
    return {"began_at": begin, "weights": state["weights"].tolist()}


if __name__ == "__main__":
    print(train(40))
