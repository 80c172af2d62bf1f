"""Training with PyTorch that is killed in the middle and goes on from its checkpoint.

    python examples/resume_torch.py

Kill it while it runs, however you like (Ctrl-C, `kill -9`), and call it again: `output_dir=` names
a directory of these arguments, so the second run finds what the first has left.
On a cluster that directory is a `gs://` URI: fsspec, which comes with PyTorch, writes to either.
"""

import time

import kinetic


@kinetic.run(
    accelerator="cpu",
    requirements=["torch", "gcsfs"],
    output_dir="{function}/{arguments_hash}",
)
def train(steps: int, seconds_a_step: float = 0.1) -> dict:
    import fsspec
    import torch

    features = torch.arange(12.0).reshape(4, 3) / 12
    wanted = features @ torch.tensor([1.0, -2.0, 3.0])
    model = torch.nn.Linear(3, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    files, folder = fsspec.url_to_fs(kinetic.checkpoint_dir())
    checkpoint, begin = f"{folder}/checkpoint.pt", 0
    if files.exists(checkpoint):
        with files.open(checkpoint, "rb") as file:
            state = torch.load(file, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        begin = state["step"]
    print(f"beginning behind step {begin} of {steps}", flush=True)

    for number in range(begin + 1, steps + 1):
        optimizer.zero_grad()
        torch.mean((model(features)[:, 0] - wanted) ** 2).backward()
        optimizer.step()
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": number}
        with files.open(f"{checkpoint}.new", "wb") as file:
            torch.save(state, file)
        # Whoever is killed while writing leaves the last whole one.
        files.mv(f"{checkpoint}.new", checkpoint)
        time.sleep(seconds_a_step)  # so that there is time to kill it
    return {"began_at": begin, "weights": model.weight[0].tolist()}


if __name__ == "__main__":
    print(train(40))
