"""Public keys as text: both spellings, the fingerprint, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zmq.utils import z85

from common import keys

KEY = bytes(range(32))


def test_the_fingerprint_is_that_of_ssh() -> None:
    """Computed once with `openssl dgst -sha256 -binary | base64`."""
    assert keys.fingerprint(KEY) == "SHA256:Yw3NKWbEM2aRElRIu7JbT/QSpJxzLbLIq8G4WBvXEN0"


@given(st.binary(min_size=32, max_size=32))
def test_both_spellings_are_read(key: bytes) -> None:
    """Hex in either case, and the Z85 that libzmq itself writes."""
    assert keys.parse_key(keys.key_text(key)) == key
    assert keys.parse_key(f" {keys.key_text(key).upper()}\n") == key
    assert keys.parse_key(z85.encode(key).decode()) == key


@pytest.mark.parametrize("text", ["", "ab" * 31, "0x" + "ab" * 31, "~" * 40, "#" * 40, "é" * 64])
def test_anything_else_is_refused(text: str) -> None:
    """With a sentence, also where Z85 would stand for more than 32 bits."""
    with pytest.raises(ValueError, match="is n"):
        keys.parse_key(text)
