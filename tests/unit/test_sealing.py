"""Sealing values for a run: nobody without its key reads them, or changes them unseen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kinetic_flows.runner_image.runner.sealing import SealBroken, open_sealed

from kinetic_flows.core.sealing import identity_of, new_seal_key, seal_values

VALUES = {"TOKEN": "hush", "OTHER": "a value of a few words"}


def test_two_sealings_have_nothing_in_common_but_how_they_begin() -> None:
    key = new_seal_key()
    one, two = seal_values(VALUES, key), seal_values(VALUES, key)
    shared = sum(a == b for a, b in zip(one[17:], two[17:], strict=True))
    assert shared < len(one) / 20, "the nonce is new each time"
    assert new_seal_key() != key


def test_neither_names_nor_values_can_be_read() -> None:
    sealed = seal_values(VALUES, new_seal_key())
    for text in (*VALUES, *VALUES.values()):
        assert text.encode() not in sealed


def test_sizes_tell_little() -> None:
    key = new_seal_key()
    sizes = {len(seal_values({"A": "x" * length}, key)) for length in range(500)}
    assert len(sizes) == 1


def test_another_key_opens_nothing() -> None:
    with pytest.raises(SealBroken):
        open_sealed(seal_values(VALUES, new_seal_key()), new_seal_key())


@given(place=st.integers(min_value=0), bit=st.integers(min_value=0, max_value=7))
def test_whatever_is_changed_is_refused(place: int, bit: int) -> None:
    key = new_seal_key()
    sealed = bytearray(seal_values(VALUES, key))
    sealed[place % len(sealed)] ^= 1 << bit
    with pytest.raises(SealBroken):
        open_sealed(bytes(sealed), key)


@pytest.mark.parametrize("data", [b"", b"x", b"kinetic-sealed-1\n", bytes(49), bytes(2000)])
def test_what_was_never_sealed_is_refused(data: bytes) -> None:
    with pytest.raises(SealBroken):
        open_sealed(data, new_seal_key())


def test_what_is_cut_or_longer_is_refused() -> None:
    key = new_seal_key()
    sealed = seal_values(VALUES, key)
    for other in (sealed[:-1], sealed + b"\0", sealed[:20], sealed[1:], sealed * 2):
        with pytest.raises(SealBroken):
            open_sealed(other, key)


def test_values_are_told_apart_by_those_who_have_the_key() -> None:
    one, other = b"k" * 32, b"l" * 32
    assert identity_of(VALUES, one) == identity_of(dict(reversed(VALUES.items())), one)
    assert identity_of(VALUES, one) != identity_of({**VALUES, "TOKEN": "hush!"}, one)
    assert identity_of(VALUES, one) != identity_of(VALUES, other)
