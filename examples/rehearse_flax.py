"""A transformer in Flax, its weights spread over a mesh, rehearsed before a slice is asked for.

    python examples/rehearse_flax.py
    kinetic rehearse examples/rehearse_flax.py:train

Its training step is compiled here with the compiler of each TPU, for chips that nobody has yet: the
tables say what it needs of their memory. At this size it fits both.
"""

from collections.abc import Sequence
from typing import Any

import kinetic

VOCABULARY, LENGTH, HEADS, LAYERS = 8192, 1024, 8, 1
WIDTH, SEQUENCES = 2048, 128  # what one changes when it does not fit, or leaves room


def language_model(width: int) -> Any:
    """Return a model, of real weights or, in `nnx.eval_shape`, of shapes alone."""
    import jax
    from flax import nnx

    class Block(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            self.norms = nnx.List([nnx.LayerNorm(width, rngs=rngs) for _ in range(2)])
            self.attention = nnx.MultiHeadAttention(HEADS, width, decode=False, rngs=rngs)
            self.up = nnx.Linear(width, 4 * width, rngs=rngs)
            self.down = nnx.Linear(4 * width, width, rngs=rngs)

        def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
            x = x + self.attention(self.norms[0](x), mask=mask)
            return x + self.down(nnx.gelu(self.up(self.norms[1](x))))

    class LanguageModel(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            self.embed = nnx.Embed(VOCABULARY, width, rngs=rngs)
            self.blocks = nnx.List([Block(rngs) for _ in range(LAYERS)])

        def __call__(self, tokens: jax.Array) -> jax.Array:
            x, mask = self.embed(tokens), nnx.make_causal_mask(tokens)
            for block in self.blocks:
                x = block(x, mask)
            return self.embed.attend(x)

    return LanguageModel(nnx.Rngs(0))


def training(width: int) -> tuple[Any, Any, Any]:
    """Return the shapes of a model's weights, their optimizer and the jitted step."""
    import jax
    import optax
    from flax import nnx

    graph, weights = nnx.split(nnx.eval_shape(lambda: language_model(width)))
    optimizer = optax.adamw(1e-3)

    def step(weights: Any, moments: Any, tokens: Any) -> tuple[Any, Any, Any]:
        def loss_of(weights: Any) -> Any:
            logits = nnx.merge(graph, weights)(tokens[:, :-1])
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:])
            return losses.mean()

        loss, slopes = jax.value_and_grad(loss_of)(weights)
        updates, moments = optimizer.update(slopes, moments, weights)
        return optax.apply_updates(weights, updates), moments, loss

    # What is donated takes the place of what it becomes, and is not needed twice.
    return weights, optimizer, jax.jit(step, donate_argnums=(0, 1))


def laid_out(devices: Sequence[Any]) -> tuple[Any, Any]:
    """Return how weights and tokens lie on devices: two halves of the batch, weights in parts."""
    import jax
    from jax.sharding import AxisType, NamedSharding, PartitionSpec

    rows = 2 if len(devices) % 2 == 0 else 1
    mesh = jax.make_mesh(
        (rows, len(devices) // rows),
        ("data", "model"),
        axis_types=(AxisType.Auto, AxisType.Auto),
        devices=devices,
    )

    def of_weight(weight: Any) -> NamedSharding:
        if weight.ndim > 1 and weight.shape[-1] % mesh.shape["model"] == 0:
            return NamedSharding(mesh, PartitionSpec(*[None] * (weight.ndim - 1), "model"))
        return NamedSharding(mesh, PartitionSpec())  # small: whole on each

    return of_weight, NamedSharding(mesh, PartitionSpec("data", None))


@kinetic.run(
    accelerator=["tpu-v5e-8", "tpu-v6e-8"],
    requirements=["jax", "flax", "optax"],
)
def train(steps: int, width: int = WIDTH, sequences: int = SEQUENCES) -> list[float]:
    import jax
    from flax import nnx

    of_weight, of_tokens = laid_out(jax.devices())
    shapes, optimizer, step = training(width)
    places = jax.tree.map(of_weight, shapes)
    # Each device makes its own part: the whole need not fit one.
    weights = jax.jit(lambda: nnx.state(language_model(width)), out_shardings=places)()
    moments = optimizer.init(weights)
    losses = []
    for number in range(steps):
        words = jax.random.randint(jax.random.key(number), (sequences, LENGTH + 1), 0, VOCABULARY)
        weights, moments, loss = step(weights, moments, jax.device_put(words, of_tokens))
        losses.append(float(loss))
    return losses


@train.rehearsal
def _(devices: Sequence[Any]) -> tuple[Any, tuple[Any, ...]]:
    import jax

    of_weight, of_tokens = laid_out(devices)
    weights, optimizer, step = training(WIDTH)

    def placed(shape: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=of_weight(shape))

    moments = jax.eval_shape(optimizer.init, weights)
    tokens = jax.ShapeDtypeStruct((SEQUENCES, LENGTH + 1), "int32", sharding=of_tokens)
    return step, (*jax.tree.map(placed, (weights, moments)), tokens)


if __name__ == "__main__":
    print(train.rehearse())
