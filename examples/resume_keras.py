"""Training with Keras that is killed in the middle and goes on from its checkpoint.

    python examples/resume_keras.py

Kill it while it runs, however you like (Ctrl-C, `kill -9`), and call it again: `output_dir=` names
a directory of these arguments, so the second run finds what the first has left.
On a cluster that directory is a `gs://` URI: Keras writes a file, which fsspec copies to either.
"""

import tempfile
import time
from pathlib import Path

import kinetic


@kinetic.run(
    accelerator="cpu",
    requirements=["keras", "jax", "gcsfs"],  # Keras's backend is JAX: the only one there is
    output_dir="{function}/{arguments_hash}",
)
def train(epochs: int, seconds_an_epoch: float = 0.1) -> dict:
    import fsspec
    import keras
    import numpy as np

    features = np.arange(12.0).reshape(4, 3) / 12
    wanted = features @ np.array([1.0, -2.0, 3.0])
    files, folder = fsspec.url_to_fs(kinetic.checkpoint_dir())
    checkpoint = f"{folder}/model.keras"
    local = Path(tempfile.mkdtemp()) / "model.keras"

    if files.exists(checkpoint):
        files.get_file(checkpoint, str(local))
        model = keras.saving.load_model(local)  # with its optimizer, which counts the steps
    else:
        layer = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
        model = keras.Sequential([keras.Input((3,)), layer])
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss="mse")
    begin = int(model.optimizer.iterations)  # one step is one epoch here

    class Keep(keras.callbacks.Callback):
        def on_epoch_end(self, *_: object) -> None:
            self.model.save(local)
            files.put_file(str(local), f"{checkpoint}.new")
            # Whoever is killed while writing leaves the last whole one.
            files.mv(f"{checkpoint}.new", checkpoint)
            time.sleep(seconds_an_epoch)  # so that there is time to kill it

    print(f"beginning behind epoch {begin} of {epochs}", flush=True)
    model.fit(
        features,
        wanted,
        batch_size=len(features),
        initial_epoch=begin,
        epochs=epochs,
        callbacks=[Keep()],
        verbose=0,
    )
    return {"began_at": begin, "weights": model.get_weights()[0][:, 0].tolist()}


if __name__ == "__main__":
    print(train(40))
