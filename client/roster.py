"""Who is in one room, by version. Pure. PROTOCOL.md, "Presence".

JOINED and MEMBERS say who is there at a version; presence events lead from one version to the
next. A version that does not follow is a hole: the answer says so, and the session asks WHO.
"""

from __future__ import annotations

from client.events import Presence
from common import wire


class Roster:
    """The users of one room. Owned by the session, hence by one thread.

    nicks is None where the room is too large for names; `users` is right all the same.
    """

    __slots__ = ("nicks", "room", "users", "version")

    def __init__(self, room: str) -> None:
        self.room = room
        self.version = 0
        self.users = 0
        self.nicks: set[str] | None = None

    def begin(self, version: int, users: int, nicks: list[str] | None) -> None:
        """Take the users from a first JOINED; nobody is news then."""
        self.version = version
        self.users = users
        self.nicks = None if nicks is None else set(nicks)

    def replace(
        self, version: int, users: int, nicks: list[str] | None, *, is_news: bool = True
    ) -> Presence | None:
        """Take the users from JOINED or MEMBERS and return what changed meanwhile.

        After a restart of the broker the others come back one after another. Then is_news is
        False: count and nicks are told, and nobody is said to have left or joined.
        """
        before, users_before = self.nicks, self.users
        self.begin(version, users, nicks)
        joined: list[str] = []
        left: list[str] = []
        if is_news and before is not None and self.nicks is not None:
            joined = sorted(self.nicks - before)
            left = sorted(before - self.nicks)
        if not joined and not left and users == users_before and self.nicks == before:
            return None
        is_all_told = is_news and before is not None
        return Presence(self.room, users, joined, left, [], None if is_all_told else self._all())

    def _all(self) -> list[str] | None:
        return None if self.nicks is None else sorted(self.nicks)

    def apply(self, event: wire.Presence) -> tuple[Presence | None, bool]:
        """Take a presence event; return what is news, and whether WHO must be asked."""
        changes = event.changes
        if event.version <= self.version:
            # A beacon of our version: when it could hold names, and we have none, we missed them.
            is_ours = event.version == self.version
            return None, is_ours and self.nicks is None and changes is not None
        if changes is not None and event.prev != self.version:
            return None, True
        users_before, self.users = self.users, event.users
        self.version = event.version
        if changes is None:
            # Too large for names. A hole does not matter for a count, and a thousand members
            # asking WHO at once would.
            self.nicks = None
            is_news = event.users != users_before
            return (Presence(self.room, event.users, [], [], []) if is_news else None), False
        must_ask = self.nicks is None  # The room has shrunk to where names are told again.
        joined, left = changes.joined, changes.left
        if self.nicks is not None:
            # JOINED and MEMBERS may name somebody before the change that tells of them.
            joined = [nick for nick in joined if nick not in self.nicks]
            left = [nick for nick in left if nick in self.nicks]
            self.nicks.difference_update(changes.left)
            self.nicks.difference_update(old for old, _ in changes.renamed)
            self.nicks.update(changes.joined, changes.returned)
            self.nicks.update(new for _, new in changes.renamed)
            # Somebody whom JOINED named came and went before the change was told.
            must_ask = len(self.nicks) != event.users
        is_news = bool(joined or left or changes.renamed)
        if not is_news and event.users == users_before:
            return None, must_ask
        nicks = self._all() if changes.returned else None  # Of them no list tells.
        news = Presence(self.room, event.users, joined, left, changes.renamed, nicks)
        return news, must_ask
