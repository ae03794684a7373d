"""Who is in a room, and what to tell its members about it. Pure.

Changes are gathered for a tick and told together; who came and went within the tick is not
told at all. Each telling has a version. PROTOCOL.md, "Presence".
"""

from __future__ import annotations

from broker.sessions import User
from common.limits import PRESENCE_NAMES_MAX
from common.wire import Changes, Presence


class Roster:
    """The users of one room."""

    __slots__ = ("_before", "_returned", "_sessions", "version")

    def __init__(self, version: int) -> None:
        self.version = version
        self._sessions: dict[User, int] = {}  # How many sessions of the user are in the room.
        self._before: dict[User, str | None] = {}  # Touched users: the nick that was told last.
        self._returned: set[User] = set()

    def __len__(self) -> int:
        return len(self._sessions)

    def __contains__(self, user: User) -> bool:
        return user in self._sessions

    def nicks(self) -> list[str]:
        """Return the nicks, in the order of joining."""
        return [user.nick for user in self._sessions]

    def add(self, user: User, *, is_return: bool = False) -> bool:
        """Count one more session of the user; return whether that is a change."""
        count = self._sessions.get(user, 0)
        if not count:
            self._before.setdefault(user, None)
            if is_return:
                self._returned.add(user)
        self._sessions[user] = count + 1
        return not count

    def remove(self, user: User) -> bool:
        """Count one session less; return whether that is a change."""
        count = self._sessions[user]
        if count > 1:
            self._sessions[user] = count - 1
            return False
        del self._sessions[user]
        self._before.setdefault(user, user.nick)
        return True

    def rename(self, user: User, nick_before: str) -> None:
        """Note that a user of the room has a new nick."""
        self._before.setdefault(user, nick_before)

    def flush(self, room: str) -> Presence | None:
        """Return what there is to tell since the last flush, or None."""
        changes = self._changes()
        if not any((changes.joined, changes.left, changes.renamed, changes.returned)):
            return None
        prev, self.version = self.version, self.version + 1
        told_count = len(changes.joined) + len(changes.left) + len(changes.returned)
        is_small = max(len(self), told_count) <= PRESENCE_NAMES_MAX
        return Presence(room, prev, self.version, len(self), changes if is_small else None)

    def _changes(self) -> Changes:
        changes = Changes([], [], [], [])
        for user, before in self._before.items():
            now = user.nick if user in self._sessions else None
            if before is None and now is not None:
                (changes.returned if user in self._returned else changes.joined).append(now)
            elif before is not None and now is None:
                changes.left.append(before)
            elif before is not None and now is not None and before != now:
                changes.renamed.append((before, now))
        self._before.clear()
        self._returned.clear()
        for came in (changes.joined, changes.returned):
            for nick in set(came) & set(changes.left):  # Left and came again within the tick.
                came.remove(nick)
                changes.left.remove(nick)
        return changes
