"""What closed rooms are called by people: more than one may have the same title."""

from __future__ import annotations

import pytest

from common.errors import Refused
from tests.unit.party import Party


def test_two_rooms_of_one_title_are_listed() -> None:
    (anna,) = Party("anna").guests
    directory = anna.session.directory
    one, other = "+" + "1" * 24, "+" + "2" * 24
    directory.call(one, "+plans")
    assert directory.find("+plans") == one
    directory.call(other, "+Plans")
    with pytest.raises(Refused, match=r"several rooms") as caught:
        directory.find("+plans")
    assert one in caught.value.detail
    assert other in caught.value.detail
    assert directory.find(other) == other
    directory.drop(other)
    assert directory.find("+plans") == one
