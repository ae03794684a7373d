"""Who is in a room, and what to tell its members about it. Pure.

Changes are gathered for a tick and told together; who came and went within the tick is not
told at all, unless somebody was shown the room meanwhile. Each telling has a version; what a
member was shown at a version, and all tellings after it, are who is there. PROTOCOL.md,
"Presence".
"""

from __future__ import annotations

from collections.abc import Iterator

from broker.chat.sessions import User
from common.limits import PRESENCE_NAMES_MAX
from common.wire import Changes, Presence


class Roster:
    """The users of one room."""

    __slots__ = (
        "_before",
        "_doubts",
        "_nicks",
        "_returned",
        "_sessions",
        "_since",
        "_strayed",
        "_told_count",
        "_viewers",
        "version",
    )

    def __init__(self, version: int) -> None:
        self.version = version
        self._told_count = 0  # Users, at this version.
        self._sessions: dict[User, int] = {}  # How many sessions of the user are in the room.
        # As `show` tells them; None when it must look. A crowd that comes asks one by one.
        self._nicks: list[str] | None = []
        # Of the current tick:
        self._before: dict[User, str | None] = {}  # Touched users: the nick that was told last.
        self._returned: set[User] = set()
        self._viewers: list[User] = []  # Who was shown the room in the middle of the tick,
        self._since: dict[User, int] = {}  # how many of them before the user's last change,
        self._strayed: set[User] = set()  # users whom they saw in a state that has passed,
        self._doubts: set[str] = set()  # and the nicks that they saw those users by.

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[User]:
        return iter(tuple(self._sessions))

    def __contains__(self, user: User) -> bool:
        return user in self._sessions

    def look(self, viewer: User) -> None:
        """Note that a user was shown how many are there, and will hear the changes."""
        if self._before:
            self._viewers.append(viewer)

    def show(self, viewer: User) -> list[str]:
        """Return the nicks in the order of joining, for a user who will hear the changes."""
        self.look(viewer)
        if self._nicks is None:
            self._nicks = [user.nick for user in self._sessions]
        return self._nicks.copy()

    def add(self, user: User, *, is_return: bool = False) -> bool:
        """Count one more session of the user; return whether that is a change."""
        count = self._sessions.get(user, 0)
        if not count:
            self._touch(user, None)
            if self._nicks is not None:
                self._nicks.append(user.nick)
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
        self._nicks = None
        self._touch(user, user.nick)
        return True

    def move(self, user: User, other: User) -> None:
        """Let a session of one user be one of another from here on."""
        # What it was shown of the first one it must hear the end of: it is still here.
        self._viewers = [other if viewer is user else viewer for viewer in self._viewers]
        self.remove(user)
        self.add(other)

    def rename(self, user: User, nick_before: str) -> None:
        """Note that a user of the room has a new nick."""
        self._nicks = None
        self._touch(user, nick_before)

    def _touch(self, user: User, before: str | None) -> None:
        """Note that a user who was `before` until now (None: not here) has changed."""
        if user not in self._before:
            self._before[user] = before
        elif self._was_seen(user):
            self._strayed.add(user)
            if before is not None:
                self._doubts.add(before)
        self._since[user] = len(self._viewers)

    def _was_seen(self, user: User) -> bool:
        """Tell whether anybody who is still to hear of it saw the user's passing state."""
        is_here = user in self._sessions
        seen = range(self._since[user], len(self._viewers))
        return any(is_here or self._viewers[index] is not user for index in seen)

    def head(self, room: str) -> Presence:
        """Return what shows the version to a member who may have missed the last telling."""
        # At this version: who came since may go again, and nobody hears of it.
        is_small = self._told_count <= PRESENCE_NAMES_MAX
        nothing = Changes([], [], [], []) if is_small else None
        return Presence(room, self.version, self.version, len(self), nothing)

    def flush(self, room: str) -> Presence | None:
        """Return what there is to tell since the last flush, or None."""
        changes = self._changes()
        if not any((changes.joined, changes.left, changes.renamed, changes.returned)):
            return None
        prev, self.version = self.version, self.version + 1
        self._told_count = len(self)
        told_count = len(changes.joined) + len(changes.left) + len(changes.returned)
        is_small = max(len(self), told_count) <= PRESENCE_NAMES_MAX
        return Presence(room, prev, self.version, len(self), changes if is_small else None)

    def _changes(self) -> Changes:
        left: dict[str, User] = {}
        came: dict[str, User] = {}
        changes = Changes([], [], [], [])
        for user, before in self._before.items():
            now = user.nick if user in self._sessions else None
            if before is None and now is not None:
                came[now] = user
            elif before is not None and now is None:
                left[before] = user
            elif before is not None and now is not None and before != now:
                changes.renamed.append((before, now))
            elif now is not None and user in self._strayed:
                changes.returned.append(now)
        for nick, user in came.items():
            gone = left.pop(nick, None)  # Left and came again within the tick: no news,
            is_gap_seen = gone and (gone in self._strayed or self._since[user] > self._since[gone])
            if gone is None:
                (changes.returned if user in self._returned else changes.joined).append(nick)
            elif is_gap_seen:  # but for those who were shown the room without this nick.
                changes.returned.append(nick)
        here = {user.nick for user in self._before if user in self._sessions}
        changes.left.extend(left)
        changes.left.extend(sorted(self._doubts - here - left.keys()))
        for of_tick in (self._before, self._returned, self._since, self._strayed, self._doubts):
            of_tick.clear()
        self._viewers.clear()
        return changes
