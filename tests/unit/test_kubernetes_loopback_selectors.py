"""How the loopback Kubernetes reads selectors."""

from __future__ import annotations

import pytest

from loopback.kubernetes.selectors import field_selector, label_selector

POD = {
    "metadata": {"name": "a", "labels": {"app": "train", "tier": "gpu"}},
    "status": {"phase": "Running"},
}


@pytest.mark.parametrize(
    ("text", "selects"),
    [
        ("", True),
        ("app=train", True),
        ("app==train,tier!=tpu", True),
        ("app=serve", False),
        ("app in (train, serve)", True),
        ("app notin (train, serve)", False),
        ("app", True),
        ("!app", False),
        ("!other", True),
        ("prefect.io/flow-run-id=1", False),
    ],
)
def test_label_selectors(text, selects):
    assert label_selector(text)(POD) is selects


@pytest.mark.parametrize(
    ("text", "selects"),
    [
        ("", True),
        ("metadata.name=a", True),
        ("metadata.name=b", False),
        ("status.phase!=Running", False),
        ("spec.nodeName=", True),
    ],
)
def test_field_selectors(text, selects):
    assert field_selector(text)(POD) is selects
