"""Sessions and the people behind them. Pure: time comes in as seconds of a steady clock.

A session is one running client, known by its secret token. A user is a nick in use: all
sessions of one owner that go by that nick. A session lives while its inbox subscription does,
and for a grace period after it, so that a short break of the network is no news.
PROTOCOL.md, "Sessions".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice

from broker import keys
from broker.chat.floods import RETURN_S, Bucket, Floods, Rate
from broker.chat.lookalikes import Lookalikes, key_of
from broker.chat.peer import PLAIN, Peer, is_loopback
from broker.chat.timers import Timers
from common import topics
from common.errors import Code, Refused
from common.names import check_nick, fold
from common.wire import Hello

# Subscriptions whose HELLO has not come, beside one for each client: after a restart all of
# them subscribe at once. The oldest give way.
INBOXES_SPARE = 4_096
# A client has one session on its connection, and another for a moment when it begins anew. More
# would let one connection take every place.
SESSIONS_PER_ROUTE_MAX = 4
# Names that rooms had: what is on its way with one of them gets there. Nobody is so slow that a
# room is renamed more often meanwhile.
MOVED_MAX = 64
MEMORY_WAIT_MS = 500  # Until memory is short no more, it is hoped.
POKE_S = 1.0  # A HELLO follows its inbox subscription sooner than that.


class User:
    """A nick in use, and the sessions that go by it. Compared by identity."""

    __slots__ = ("folded", "key", "nick", "owner", "sessions")

    def __init__(self, nick: str, owner: bytes) -> None:
        self.owner = owner
        self.sessions: set[Session] = set()
        self.call(nick)

    def call(self, nick: str) -> None:
        """Give the user this nick."""
        self.nick = nick
        self.folded = fold(nick)
        self.key = key_of(nick)  # The same for nicks that look alike.


class Session:
    """One running client."""

    __slots__ = (
        "address",
        "bucket",
        "expected",
        "has_spoken",
        "inbox",
        "inbox_count",
        "instance",
        "kept",
        "key",
        "moved",
        "nudged",
        "origin",
        "peer",
        "rooms",
        "route",
        "sender",
        "speaks",
        "token",
        "user",
    )

    def __init__(
        self, token: bytes, route: bytes, instance: int, sender: bytes, peer: Peer
    ) -> None:
        self.token = token
        self.inbox = topics.inbox(token)
        self.origin = route  # Where it began.
        self.route = route  # Of its newest command: ROUTER draws another at each reconnect.
        self.instance = instance
        self.sender = sender
        self.peer = peer  # Who began it; nobody else may speak for it.
        self.key = peer.key
        # Whose allowance it shares: on the broker's own host everybody has the same.
        self.address = "" if is_loopback(peer.address) else peer.address
        self.user: User
        self.kept: Mapping[int, bytes] = {}  # The log's living memory; only the log writes it.
        self.expected = 1  # The number of the next SEND.
        self.has_spoken = False  # Under the nick that it has now.
        self.inbox_count = 0  # Two for a moment when a reconnect overtakes the old connection.
        self.rooms: set[str] = set()
        self.speaks: set[str] = set()  # Those of them in which it may say what it likes.
        self.moved: dict[str, str] = {}  # Rooms of its own that got another name: old to new.
        self.nudged: set[str] = set()  # Talks that it was told of, and is not in.
        self.bucket: Bucket

    def note_move(self, before: str, name: str) -> None:
        """Note that a room got another name; the oldest of too many moves is forgotten."""
        self.moved = {old: name if new == before else new for old, new in self.moved.items()}
        self.moved.pop(name, None)  # It had this name once.
        self.moved[before] = name
        if len(self.moved) > MOVED_MAX:
            del self.moved[next(iter(self.moved))]

    def forget_moves(self, name: str) -> None:
        """Forget under which names a room was known that it is no longer in."""
        if name in self.moved.values():
            self.moved = {old: new for old, new in self.moved.items() if new != name}


class Sessions:
    """All sessions and users, and the inbox subscriptions that show who is alive."""

    def __init__(self, *, clients_max: int, grace_s: float, rate: Rate, now_s: float = 0.0) -> None:
        """Begin with the broker, at a time of the steady clock."""
        self.floods = Floods(rate, returned_s=now_s + RETURN_S)
        self.clients_max = clients_max
        self.is_short_of_memory = False  # Nobody new is taken then, and everybody waits.
        self._grace_s = grace_s
        self._by_token: dict[bytes, Session] = {}
        self._by_inbox: dict[bytes, Session] = {}
        self._users: dict[str, User] = {}
        self._lookalikes: Lookalikes[User] = Lookalikes()
        self._people: dict[bytes, set[User]] = {}  # By identity: nicks that each goes by.
        self._unclaimed: dict[bytes, int] = {}  # Inboxes that no session has, and how often.
        self._unclaimed_keys: dict[bytes, bytes] = {}  # Whose they are, of those with a key.
        # Sessions whose inbox was never open, oldest first: perhaps there is no client behind.
        self._unproven: dict[bytes, Session] = {}
        self._origins: Counter[bytes] = Counter()  # How many sessions began at each route.
        self._graces: Timers[bytes] = Timers()  # By inbox, as the pokes.
        self._pokes: Timers[bytes] = Timers()

    def __len__(self) -> int:
        return len(self._by_token)

    @property
    def users_count(self) -> int:
        """How many different names there are."""
        return len(self._users)

    def __iter__(self) -> Iterator[Session]:
        return iter(self._by_token.values())

    def get(self, token: bytes) -> Session | None:
        """Return the session with this token."""
        return self._by_token.get(token)

    def giving_way(
        self, route: bytes, token: bytes, hello: Hello, peer: Peer = PLAIN
    ) -> list[Session]:
        """Return the session to end, if any, so that this newcomer has a place.

        Raises `Refused` for a newcomer whom a place would not help: nobody gives way for nothing.

        When all places are taken, the oldest that only said HELLO gives way, so that a flood of
        HELLOs keeps nobody out. An honest client's inbox is open soon after its HELLO, if not
        before; and one that gave way is told `no_session`, and says HELLO again.
        """
        if len(self._by_token) < self.clients_max or token in self._by_token:
            return []
        self._newcomer(route, token, hello, peer)
        return list(islice(self._unproven.values(), 1))

    def hello(
        self, route: bytes, token: bytes, hello: Hello, now_s: float, peer: Peer = PLAIN
    ) -> tuple[Session, bool]:
        """Begin or resume a session; return it, and whether it was there. Raises `Refused`."""
        session = self._by_token.get(token)
        if session is not None:
            if session.instance != hello.instance or session.key != peer.key:
                raise Refused(Code.SESSION_TAKEN)
            session.route = route
            session.expected = max(session.expected, hello.number)
            return session, True
        if len(self._by_token) >= self.clients_max:
            raise Refused(Code.FULL, f"the broker takes {self.clients_max} clients at most")
        inbox, user = self._newcomer(route, token, hello, peer)
        sender = keys.sender(token, hello.instance)
        session = Session(token, route, hello.instance, sender, peer)
        self._by_token[token] = self._by_inbox[inbox] = session
        self._origins[route] += 1
        session.user = user
        session.expected = hello.number
        session.bucket = Bucket(self.floods.rate, now_s)
        session.inbox_count = self._unclaimed.pop(inbox, 0)
        self._unclaimed_keys.pop(inbox, None)
        self._pokes.cancel(inbox)
        user.sessions.add(session)
        self._add_user(user)
        if not session.inbox_count:
            self._unproven[inbox] = session
            self._graces.set(inbox, now_s + self._grace_s)
            # It may be open all the same, and have given way to strays: then who is there hears
            # this, and opens it anew. As it has a session now, no stray can take that one.
            self._pokes.set(inbox, now_s + POKE_S)
        return session, False

    def _newcomer(self, route: bytes, token: bytes, hello: Hello, peer: Peer) -> tuple[bytes, User]:
        """Return the inbox and the user of a new session, if there may be one; else `Refused`."""
        inbox = topics.inbox(token)
        # Two tokens that begin alike: one was not drawn. Or somebody else hears this one's inbox.
        if inbox in self._by_inbox or self._unclaimed_keys.get(inbox, peer.key) != peer.key:
            raise Refused(Code.SESSION_TAKEN)
        if self.is_short_of_memory:
            raise Refused(Code.FULL, "the broker is short of memory")
        if self._origins[route] >= SESSIONS_PER_ROUTE_MAX:
            raise Refused(Code.FULL, f"a connection has {SESSIONS_PER_ROUTE_MAX} sessions at most")
        return inbox, self._user(hello.nick, peer.key or keys.owner(hello.owner))

    def _user(self, nick: str, owner: bytes) -> User:
        """Return the user that a nick and an owner make, old or new. Raises `Refused`."""
        nick = check_nick(nick)
        for user in self._lookalikes.alike(nick):
            if user.owner != owner:
                raise Refused(Code.NICK_TAKEN, f"somebody else is here as {user.nick}")
        return self._users.get(key_of(nick)) or User(nick, owner)

    def end(self, session: Session) -> None:
        """Forget the session; its rooms are the caller's business."""
        del self._by_token[session.token]
        del self._by_inbox[session.inbox]
        self._unproven.pop(session.inbox, None)
        self._origins[session.origin] -= 1
        if not self._origins[session.origin]:
            del self._origins[session.origin]
        self._graces.cancel(session.inbox)
        self._pokes.cancel(session.inbox)
        self._leave_user(session)
        if session.inbox_count:
            self._unclaimed[session.inbox] = session.inbox_count
            if session.key:
                self._unclaimed_keys[session.inbox] = session.key
            self._bound_unclaimed()

    def _leave_user(self, session: Session) -> None:
        user = session.user
        user.sessions.discard(session)
        if not user.sessions and self._users.get(user.key) is user:
            self._remove_user(user)

    def _add_user(self, user: User) -> None:
        if self._users.get(user.key) is not user:
            self._users[user.key] = user
            self._lookalikes.add(user.nick, user)
            self._people.setdefault(user.owner, set()).add(user)

    def _remove_user(self, user: User) -> None:
        del self._users[user.key]
        self._lookalikes.discard(user.nick, user)
        people = self._people[user.owner]
        people.discard(user)
        if not people:
            del self._people[user.owner]

    def user(self, nick: str) -> User | None:
        """Return who goes by a nick now, in any spelling; a look-alike is somebody else."""
        try:
            user = self._users.get(key_of(nick))
        except Refused:
            return None  # Nobody can have such a nick.
        return user if user is not None and user.folded == fold(nick) else None

    def of(self, identity: bytes) -> Iterator[Session]:
        """Yield all sessions of a person."""
        for user in tuple(self._people.get(identity, ())):
            yield from tuple(user.sessions)

    def rename(self, session: Session, nick: str) -> tuple[User, str]:
        """Give the session another nick; return the user and nick that it had before.

        A user of one session changes the nick and stays the same user. Of several sessions
        only this one moves, to the user of that nick; or the user's spelling changes for all.
        """
        before, nick_before = session.user, session.user.nick
        user = self._user(nick, before.owner)
        if user is before or (len(before.sessions) == 1 and not user.sessions):
            self._remove_user(before)
            before.call(check_nick(nick))
            self._add_user(before)
        else:
            self._leave_user(session)
            session.user = user
            user.sessions.add(session)
            self._add_user(user)
        return before, nick_before

    def wait_ms(self, session: Session, count: int, now_s: float, *, alike: int = 1) -> int:
        """Take `count` texts from the session's allowance; else return how long to wait.

        When that time is over the allowance is enough for `alike` times as many, or is full.
        """
        if self.is_short_of_memory:
            return MEMORY_WAIT_MS
        user = session.user
        return self.floods.texts_wait_ms(
            session.bucket,
            user.folded,
            count,
            now_s,
            key=user.owner,
            address=session.address,
            alike=alike,
        )

    def inbox_opened(self, inbox: bytes, now_s: float, key: bytes = b"") -> bool:
        """Note that somebody subscribed to this inbox; tell whether it is theirs to hear."""
        session = self._by_inbox.get(inbox)
        if session is not None:
            # Counted also of others: the end of a subscription does not tell whose it was.
            session.inbox_count += 1
            if session.key != key:
                return False
            self._unproven.pop(inbox, None)
            self._graces.cancel(inbox)
            self._pokes.cancel(inbox)
            return True
        is_theirs = self._unclaimed_keys.get(inbox, key) == key
        if key and is_theirs:
            self._unclaimed_keys[inbox] = key
        if is_theirs:
            self._pokes.set(inbox, now_s + POKE_S)
        self._unclaimed[inbox] = self._unclaimed.get(inbox, 0) + 1
        self._bound_unclaimed()
        return is_theirs

    def _bound_unclaimed(self) -> None:
        if len(self._unclaimed) > self.clients_max + INBOXES_SPARE:
            oldest = next(iter(self._unclaimed))
            del self._unclaimed[oldest]
            self._unclaimed_keys.pop(oldest, None)
            self._pokes.cancel(oldest)

    def inbox_closed(self, inbox: bytes, now_s: float) -> None:
        """Note that a subscription to this inbox ended."""
        session = self._by_inbox.get(inbox)
        if session is not None:
            session.inbox_count = max(0, session.inbox_count - 1)
            if not session.inbox_count:
                self._graces.set(inbox, now_s + self._grace_s)
        elif inbox in self._unclaimed:
            self._unclaimed[inbox] -= 1
            if not self._unclaimed[inbox]:
                del self._unclaimed[inbox]
                self._unclaimed_keys.pop(inbox, None)
                self._pokes.cancel(inbox)

    def expired(self, now_s: float) -> list[Session]:
        """Return the sessions whose grace is over."""
        return [self._by_inbox[inbox] for inbox in self._graces.due(now_s)]

    def strangers(self, now_s: float) -> list[bytes]:
        """Return the inboxes to ask who is there: no session has them, or theirs was never seen."""
        return list(self._pokes.due(now_s))

    def next_deadline_s(self) -> float:
        """Return when `expired` or `strangers` has something again."""
        return min(self._graces.next(), self._pokes.next())
