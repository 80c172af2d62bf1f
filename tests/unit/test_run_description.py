"""What a run's page says of it."""

from __future__ import annotations

from kinetic_flows.flows.run_page import RunDescription


def test_a_description_is_a_table_of_what_a_person_wants_to_know_first() -> None:
    image = "us-docker.pkg.dev/p/kn-c/app@sha256:11"
    described = RunDescription(
        function="train",
        arguments={"rate": "0.1", "kind": "'a|b'"},
        accelerator="`tpu-v6e-8`: 8 TPU chips (2x4) on 1 host of ct6e-standard-8t",
        mode="bundled",
        image=image,
        image_page="https://console.example/image",
        environment="2 packages from requirements.txt, `ab12`",
        built_because=("+ numpy 2.1",),
        code="3 files, 1.2 kB",
        outputs="gs://bucket/outputs/1",
    )
    assert described.markdown() == "\n".join(
        [
            "| | |",
            "| --- | --- |",
            "| function | `train(rate=0.1, kind='a\\|b')` |",
            "| runs on | `tpu-v6e-8`: 8 TPU chips (2x4) on 1 host of ct6e-standard-8t |",
            f"| image | [{image}](https://console.example/image) (bundled) |",
            "| environment | 2 packages from requirements.txt, `ab12` |",
            "| built because | `+ numpy 2.1` |",
            "| code | 3 files, 1.2 kB |",
            "| outputs | `gs://bucket/outputs/1` |",
        ]
    )


def test_what_nobody_knows_is_left_out_and_an_environment_here_is_no_link() -> None:
    described = RunDescription(
        function="train",
        accelerator="`cpu`: CPU only",
        mode="bundled",
        image="local/cpu-0123456789ab",
        code="1 file, 10 B",
        outputs="/home/me/outputs",
    )
    lines = described.markdown().splitlines()
    assert "| image | `local/cpu-0123456789ab` (bundled) |" in lines
    assert not [line for line in lines if "environment" in line or "because" in line]
