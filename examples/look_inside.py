"""Looks into a run: what it does and what it uses while it goes on, and why it ended.

    python examples/look_inside.py

One of its two threads waits for a lock that the other keeps, so the run takes too long, and is
ended after twenty seconds. The command line tells the same of any run: `kinetic runs stacks`,
`kinetic runs top` and `kinetic runs why`.
"""

import threading
import time

import kinetic


@kinetic.run(accelerator="cpu", requirements=[], timeout_seconds=20)
def train() -> None:
    batch = threading.Lock()
    threading.Thread(target=load, args=(batch,), name="loader", daemon=True).start()
    print("waiting for the first batch", flush=True)
    time.sleep(1)
    with batch:
        print("never printed")


def load(batch: threading.Lock) -> None:
    batch.acquire()
    while True:
        time.sleep(60)


if __name__ == "__main__":
    run = train.submit()
    for line in run.logs(follow=True):
        if "waiting" in line:
            break
    time.sleep(8)
    print(run.stacks())
    print(run.metrics())
    try:
        run.result()
    except kinetic.RunTimedOut:
        print(run.why())
