"""What a run's page says of it."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from kinetic_flows.code.origin import Commit, Origin
from kinetic_flows.core.display import for_line
from kinetic_flows.core.job_parts import DataSpec
from kinetic_flows.flows.run_page import RunDescription
from kinetic_flows.runs.description import outputs_page

DIGEST = "0123456789ab" + "c" * 52
DESCRIBED = RunDescription(
    function="train",
    arguments={"rate": "0.1", "kind": "'a|b'"},
    accelerator="tpu-v6e-8",
    hardware="8 TPU chips (2x4) on 1 host of ct6e-standard-8t",
    mode="bundled",
    image=f"us-docker.pkg.dev/p/kn-c/app@sha256:{DIGEST}",
    image_page="https://c.example/image",
    cost="about $21.60 an hour (8 x $2.70), an estimate by a list",
    environment=f"2 packages from requirements.txt, `{DIGEST}`",
    mounted="us-docker.pkg.dev/p/r/packages@sha256:" + "b" * 64,
    built_because=("+ numpy 2.1",),
    code="3 files, 1.2 kB",
    outputs="gs://b/o/1",
    pages={"Job": "https://c.example/job", "pod logs": "https://c.example/logs?a=(b)"},
    origin=Origin(
        user="ada",
        host="laptop",
        client="1.2.3",
        entry="train.py",
        commit=Commit(id="abcdef0123456789", branch="main", is_dirty=True),
    ),
)
PAGE = """
## What ran

| function | `train(rate=0.1, kind='a\\|b')` |
| --- | --- |
| runs on | `tpu-v6e-8`: 8 TPU chips (2x4) on 1 host of ct6e-standard-8t |
| costs | about \\$21.60 an hour (8 x \\$2.70), an estimate by a list |
| code | 3 files, 1.2 kB · commit `abcdef0123` on `main`, with changes |
| called by | ada@laptop · from `train.py` · kinetic-flows 1.2.3 |
| outputs | [gs://b/o/1](https://console.cloud.google.com/storage/browser/b/o/1) |
| look at | [Job](https://c.example/job) · [pod logs](https://c.example/logs?a=%28b%29) |

## Details

| image | [app@sha256:0123456789ab](https://c.example/image) (bundled) |
| --- | --- |
| mounted | `packages@sha256:bbbbbbbbbbbb` |
| environment | 2 packages from requirements.txt, `0123456789ab` |
| built because | `+ numpy 2.1` |
""".strip()
DATA = (
    DataSpec(
        kind="local",
        identity=DIGEST,
        source="/home/ada/a|b",
        name="a|b",
        files=12_345,
        size_bytes=3_400_000_000,
    ),
    DataSpec(
        kind="hub",
        identity=DIGEST,
        source="hf://datasets/o/set@v1/data",
        name="data",
        files=1,
        size_bytes=7,
        place={
            "endpoint": "https://hub",
            "type": "dataset",
            "repository": "o/set",
            "commit": "c0ffee",
            "path": "data",
        },
    ),
    DataSpec(kind="bucket", identity="", source="gs://b/set", name="set", mode="mount"),
)
AWKWARD = [
    *("a\nb", "a|b", r"a\|b", "a`b", "``", "` `", "<b>x</b>", "<script>alert(1)</script>"),
    *("[x](y)", "![x](y)", "*x*", "_x_", "~~x~~", "&amp;", "&#124;", "\\", "| --- |", "# x"),
    *("🦊 é 汉字", "a\u2028b", "a\x00b", "a\u202eb", "https://x.example", "$x$", "\ud800", "  x  "),
]


def cells(description: RunDescription) -> dict[str, str]:
    """Return what a reader sees: the cells of the two tables, by their labels."""
    rendered = (
        MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(description.markdown())
    )
    parts = re.split(r"<h2>(.*?)</h2>\n", rendered)
    assert parts[::2][0] == ""
    assert parts[1::2] == ["What ran", "Details"]
    for part in parts[2::2]:
        assert part.count("<table>") == 1
        assert part.startswith("<table>")
        assert part.endswith("</table>\n")
    rows = re.findall(r"<tr>\n(.*?)</tr>", rendered, flags=re.DOTALL)
    found = [re.findall(r"<t[hd]>(.*?)</t[hd]>", row, flags=re.DOTALL) for row in rows]
    assert all(len(row) == 2 for row in found), rendered
    return dict(found)


def seen(cell: str) -> str:
    """Return the text of a cell without its markup."""
    return html.unescape(re.sub(r"</?(code|a|br)\b[^>]*>", "", cell))


def shown(words: str) -> str:
    """Return a text in one line, as it is to be seen."""
    return for_line(words.encode("utf-8", "backslashreplace").decode()).replace("\t", " ")


@pytest.mark.parametrize(
    ("outputs", "page"),
    [
        ("gs://b/o/1", "https://console.cloud.google.com/storage/browser/b/o/1"),
        ("gs://b/a #ü", "https://console.cloud.google.com/storage/browser/b/a%20%23%C3%BC"),
        ("/home/me/outputs", None),
        (None, None),
    ],
)
def test_outputs_in_cloud_storage_have_a_page(outputs: str | None, page: str | None) -> None:
    assert outputs_page(outputs) == page


def test_a_page_says_what_ran_before_how_it_was_made() -> None:
    assert DESCRIBED.markdown() == PAGE


def test_what_nobody_knows_is_left_out_and_an_environment_here_is_no_link() -> None:
    described = RunDescription(
        function="train",
        accelerator="cpu",
        hardware="CPU only",
        mode="bundled",
        image="local/cpu-0123456789ab",
        code="1 file, 10 B",
        outputs="/home/me/outputs",
    )
    assert list(cells(described)) == ["function", "runs on", "code", "outputs", "image"]
    assert "| image | `cpu-0123456789ab` (bundled) |" in described.markdown().splitlines()


def test_the_last_rehearsal_stands_by_what_it_was_of() -> None:
    told = {"tpu-v6e-8": "2h ago: fits, 12.30 of 31.25 GiB a device"}
    one = replace(DESCRIBED, rehearsed=told).markdown()
    assert "| rehearsed | 2h ago: fits, 12.30 of 31.25 GiB a device |\n" in one
    several = replace(DESCRIBED, rehearsed=told, others={"cpu": "CPU only"}).markdown()
    assert "| rehearsed | 2h ago: fits, 12.30 of 31.25 GiB a device on `tpu-v6e-8` |" in several


def test_long_things_are_shortened() -> None:
    many = replace(
        DESCRIBED,
        arguments={"data": "x" * 5000},
        built_because=tuple(f"+ package-{number} 1.0" for number in range(40)),
    )
    found = cells(many)
    assert len(seen(found["function"])) <= 400
    assert seen(found["function"]).endswith("x)")
    assert "and 28 more" in found["built because"]
    assert not re.search(r"[0-9a-f]{20}", many.markdown())


@pytest.mark.parametrize("words", AWKWARD)
@pytest.mark.parametrize("field", ["function", "arguments", "environment", "outputs", "code"])
def test_awkward_texts_are_shown_as_they_are(field: str, words: str) -> None:
    value: Any = {"rate": words} if field == "arguments" else words
    found = cells(replace(DESCRIBED, **{field: value}))
    assert list(found) == list(cells(DESCRIBED))
    whole = " ".join(" ".join(seen(cell).split()) for cell in found.values())
    assert " ".join(shown(words).split()) in whole


@given(name=st.text(max_size=30), value=st.text(max_size=60))
@example(name="a", value="\\|")
@example(name="`", value="``|``")
@example(name="<b>", value="&lt;|\n\n| x |")
def test_any_name_and_value_are_one_cell_that_says_just_that(name: str, value: str) -> None:
    described = replace(
        DESCRIBED,
        arguments={name: value},
        origin=replace(DESCRIBED.origin or Origin("", "", ""), user=name, entry=value),
        built_because=(value or "x",),
        outputs=f"/{name}/{value}",
        environment=f"{value}, `{DIGEST}`",
    )
    found = cells(described)
    call = shown(f"train({name}={value})")
    assert " ".join(seen(found["function"]).split()) == " ".join(call.split())
    assert " ".join(seen(found["outputs"]).split()) == " ".join(shown(f"/{name}/{value}").split())
    assert "<script" not in "".join(found.values())
    assert list(found) == list(cells(DESCRIBED))


def test_a_page_says_which_data_was_read_and_which_version_of_it() -> None:
    shown = replace(DESCRIBED, data=DATA).markdown().splitlines()
    assert [line for line in shown if line.startswith("| data")] == [
        r"| data | `/home/ada/a\|b` · 12,345 files, 3.4 GB · `0123456789ab` |",
        (
            "| data | [hf://datasets/o/set@v1/data]"
            "(https://hub/datasets/o/set/tree/c0ffee/data) · 1 file, 7 bytes · `0123456789ab` |"
        ),
        "| data | [gs://b/set](https://console.cloud.google.com/storage/browser/b/set) |",
    ]
    many = replace(DESCRIBED, data=DATA * 4).markdown()
    assert "| data | and 4 more |" in many


def test_a_runs_page_has_a_line_for_each_accelerator_and_for_each_further_image() -> None:
    page = replace(
        DESCRIBED,
        others={"l4x2": "2 GPUs on 1 host of g2-standard-24", "cpu": "CPU only"},
        tried="all at once",
        left_out=("h100x8 is left out: no | such pool",),
        images={"l4x2": f"registry/app@sha256:{'d' * 64}"},
    ).markdown()
    lines = page.splitlines()
    begin = next(place for place, line in enumerate(lines) if line.startswith("| runs on |"))
    assert lines[begin + 1 : begin + 6] == [
        "| or | `l4x2`: 2 GPUs on 1 host of g2-standard-24 |",
        "| or | `cpu`: CPU only |",
        "| costs | about \\$21.60 an hour (8 x \\$2.70), an estimate by a list |",
        "| tried | all at once |",
        "| left out | h100x8 is left out: no \\| such pool |",
    ]
    assert f"| image | `app@sha256:{'d' * 12}` on `l4x2` |" in lines
