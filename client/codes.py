"""What codes of refusals call for: another nick, another pace, another try later, or none."""

from __future__ import annotations

from typing import Final

from common.errors import Code

NICK: Final = frozenset({Code.NICK_TAKEN, Code.NICK_INVALID})
PACE: Final = frozenset({Code.GAP, Code.SLOW_DOWN})
ENDED: Final = frozenset({Code.BANNED, Code.NOT_ALLOWED})  # What an operator ended stays so.
TRY_AGAIN: Final = frozenset(
    {Code.FULL, Code.CLOSING, Code.DRAINING, Code.SLOW_DOWN, Code.LOG_FAILED}
)
