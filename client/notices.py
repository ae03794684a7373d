"""What the broker tells a session on its inbox of doors, roles and order. Pure.

PROTOCOL.md, "NOTICE". What concerns the session itself, its end, is the session's own.
"""

from __future__ import annotations

from typing import Final

from client.effects import Tray
from client.events import Told
from client.limits import REFUSED_S_MAX
from client.memberships import Memberships
from client.times import span_text
from common import wire
from common.errors import Code, Refused

SENT_AWAY: Final = frozenset({"kicked", "banned", "uninvited"})
TOLD: Final = SENT_AWAY | {
    *("muted", "unmuted", "role", "invited", "said", "report", "announcement", "removed"),
}


def is_end(notice: wire.Notice) -> bool:
    """Tell whether an operator ended the session: it was sent away from the broker itself."""
    return notice.code in SENT_AWAY and not notice.room


def end(notice: wire.Notice) -> Refused:
    """Return why, and for how long, as what calls of the program fail with."""
    code = Code.BANNED if notice.code == Code.BANNED else Code.NOT_ALLOWED
    what = "banned you" if notice.code == "banned" else "ended your session"
    time = f" for {span_text(notice.value)}" if notice.value else ""
    reason = f": {notice.text}" if notice.text else ""
    return Refused(code, f"an operator {what}{time}{reason}", 1_000 * notice.value)


def pause_s(wait_s: int) -> int:
    """Return after how long to ask again whether a refusal is over that holds so long."""
    return min(wait_s, REFUSED_S_MAX)


def take(notice: wire.Notice, memberships: Memberships, tray: Tray, now: float) -> None:
    """Do what a notice is about, and tell the program; one that is not known says nothing."""
    if notice.code == "rejoin":
        memberships.rejoin(notice.room, notice.text, notice.title, now, notice.value)
    elif notice.code in TOLD and not is_end(notice):
        tray.events.append(
            Told(notice.code, notice.room, notice.title, notice.nick, notice.text, notice.value)
        )
        if notice.code in SENT_AWAY:
            memberships.sent_away(notice.room, notice.code, notice.text, now)
        elif notice.code == "role":
            memberships.set_role(notice.room, notice.value)
