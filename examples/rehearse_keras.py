"""A Keras model on JAX, each device with its part of the batch, rehearsed for slices beforehand.

    python examples/rehearse_keras.py
    kinetic rehearse examples/rehearse_keras.py:train

Its training step is compiled here with the compiler of each TPU, for chips that nobody has yet: the
tables say what it needs of their memory. At this size it fits the second, and not the first.
"""

import os
from collections.abc import Sequence
from typing import Any

import kinetic

PIXELS, BATCH = 128, 16384  # what one may have to change when it does not fit


def training(pixels: int) -> tuple[Any, Any, Any]:
    """Return a model, its optimizer and the jitted step, which is given all of its state."""
    os.environ["KERAS_BACKEND"] = "jax"  # before Keras is imported
    import jax
    import keras

    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((pixels, pixels, 3)),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.BatchNormalization(),
            layers.MaxPooling2D(4),
            layers.Flatten(),
            layers.Dense(10),
        ]
    )
    optimizer = keras.optimizers.Adam(1e-3)
    optimizer.build(model.trainable_variables)
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def forward(weights: Any, others: Any, images: Any, labels: Any) -> tuple[Any, Any]:
        answers, others = model.stateless_call(weights, others, images, training=True)
        return loss_of(labels, answers), others

    def step(weights: Any, others: Any, moments: Any, *batch: Any) -> tuple[Any, ...]:
        slopes_of = jax.value_and_grad(forward, has_aux=True)
        (loss, others), slopes = slopes_of(weights, others, *batch)
        weights, moments = optimizer.stateless_apply(moments, slopes, weights)
        return weights, others, moments, loss

    # What is donated takes the place of what it becomes, and is not needed twice.
    return model, optimizer, jax.jit(step, donate_argnums=(0, 1, 2))


def state_of(model: Any, optimizer: Any) -> tuple[list[Any], ...]:
    """Return all that a step changes."""
    parts = (model.trainable_variables, model.non_trainable_variables, optimizer.variables)
    return tuple([variable.value for variable in part] for part in parts)


def laid_out(devices: Sequence[Any]) -> tuple[Any, Any]:
    """Return how things lie on devices: the state whole on each, the batch in parts."""
    import jax
    from jax.sharding import NamedSharding, PartitionSpec

    mesh = jax.make_mesh((len(devices),), ("data",), devices=devices)
    return NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("data"))


@kinetic.run(accelerator=["tpu-v5e-8", "tpu-v6e-8"], requirements=["keras", "jax"])
def train(steps: int, pixels: int = PIXELS, batch: int = BATCH) -> list[float]:
    import jax
    import numpy as np

    whole, parts = laid_out(jax.devices())
    model, optimizer, step = training(pixels)
    state = jax.device_put(state_of(model, optimizer), whole)
    random = np.random.default_rng(0)
    losses = []
    for _ in range(steps):
        images = random.random((batch, pixels, pixels, 3), np.float32)
        labels = random.integers(10, size=batch)
        *state, loss = step(*state, *jax.device_put((images, labels), parts))
        losses.append(float(loss))
    return losses


@train.rehearsal
def _(devices: Sequence[Any]) -> tuple[Any, tuple[Any, ...]]:
    import jax

    whole, parts = laid_out(devices)
    model, optimizer, step = training(PIXELS)  # its few weights are made, on the CPU

    def placed(value: jax.Array) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(value.shape, value.dtype, sharding=whole)

    images = jax.ShapeDtypeStruct((BATCH, PIXELS, PIXELS, 3), "float32", sharding=parts)
    labels = jax.ShapeDtypeStruct((BATCH,), "int32", sharding=parts)
    return step, (*jax.tree.map(placed, state_of(model, optimizer)), images, labels)


if __name__ == "__main__":
    print(train.rehearse())
