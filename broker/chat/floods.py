"""How much anybody may send, and how often move. Pure: time is seconds of a steady clock.

Token buckets (ADR 0013) for texts, of each session, each key and each address; and for *moves*,
which are HELLO, JOIN, PART, NICK and changes of rights, of each key and each address; the latter
two have smaller ones besides. A wait that
is answered is honest: whoever waits so long passes, unless somebody else of the same key or
address takes the allowance meanwhile. ADR 0028.

A key or an address is unknown where it is empty, as in plain mode or on the broker's own host,
and nobody is counted there but the session.
"""

from __future__ import annotations

import enum
from collections import OrderedDict
from typing import Generic, NamedTuple, TypeVar

RETURN_S = 60.0  # So long after the broker's start those of before come back.


class Rate(NamedTuple):
    """What flows into a bucket: so much a second, up to so much at once."""

    per_s: float
    burst: float
    unlimited: frozenset[str] = frozenset()  # Folded nicks of those that it does not hold for.

    def times(self, factor: float) -> Rate:
        """Return a rate and a burst so many times as large."""
        return self._replace(per_s=self.per_s * factor, burst=self.burst * factor)


# One key on several machines at once, a chat, a bot and scripts beside it.
KEY_TIMES = 4
# A terminal server, or a floor behind one router. Its neighbours share the broker with it.
ADDRESS_TIMES = 16
# A client joins its 1024 rooms at the start, and may have to do so again; then it is idle.
KEY_MOVES = Rate(20.0, 2_048.0)
# A thousand sessions from one host, with some rooms each, as a load test or a class begins.
ADDRESS_MOVES = Rate(500.0, 16_384.0)
# A person tries a few names and stays with one. Each change is told to all rooms of the session.
KEY_NICKS = Rate(0.5, 5.0)
# A talk that begins is news to somebody who has not asked for it. A newcomer greets a team; a mass
# of strangers takes minutes to push out what nobody has answered yet (`broker.chat.talks`).
KEY_TALKS = Rate(0.2, 32.0)
ADDRESS_TALKS = Rate(0.5, 64.0)
# Names that nobody had, also right after the start: who comes back has theirs. A class may be all
# new; and one host takes 8 hours to fill the register (`broker.chat.nicks`).
KEY_NAMES = Rate(0.1, 16.0)
ADDRESS_NAMES = Rate(0.5, 1_024.0)
# A person gives a handful of orders, a moderator in trouble some dozens; a bot begins talks.
# Each waits for the disk, and everybody with it.
KEY_RIGHTS = Rate(5.0, 50.0)
ADDRESS_RIGHTS = KEY_RIGHTS.times(ADDRESS_TIMES)
# Taken ahead for a session from what many share, so that few SENDs have to look there.
LEASE_PART = 40  # Of a session's burst.
# Whoever has a bucket when these are full loses it, the longest unused first. It was full again by
# then, unless so many were in use at once: then one of them gets a new burst too early.
KEYS_MAX = 16_384
ADDRESSES_MAX = 4_096


class Bucket:
    """What somebody has left, and since when."""

    __slots__ = ("allowance", "leased", "rated_at_s")

    def __init__(self, rate: Rate, now_s: float) -> None:
        self.allowance = rate.burst
        self.rated_at_s = now_s
        self.leased = 0.0  # Of a session: what its key and its address have given it ahead.

    def fill(self, rate: Rate, now_s: float) -> float:
        """Add what time has brought; return what there is now."""
        self.allowance = min(rate.burst, self.allowance + (now_s - self.rated_at_s) * rate.per_s)
        self.rated_at_s = now_s
        return self.allowance

    def give_back(self, count: int) -> None:
        """Undo what `Floods.texts_wait_ms` has taken, for a session; `fill` knows the bound."""
        self.allowance += count
        self.leased += count

    def wait_ms(self, rate: Rate, count: float, *, alike: int = 1) -> int:
        """Return how long to wait until there is enough for `count`; 0 if there is.

        Filling before and taking after are the caller's. When the wait is over there is enough for
        `alike` times as many, or the bucket is full.
        """
        if self.allowance >= count:
            return 0
        wanted = max(count, min(rate.burst, count * alike))
        return int((wanted - self.allowance) / rate.per_s * 1_000) + 1


class Move(enum.Enum):
    """What counts as a move."""

    HELLO = enum.auto()
    JOIN = enum.auto()
    PART = enum.auto()
    NICK = enum.auto()
    RIGHTS = enum.auto()  # A talk, a kick, a ban, an invitation: whatever waits for the disk.
    TALK = enum.auto()  # One that there was not.
    NAME = enum.auto()  # A nick that was nobody's.


RETURNING = frozenset({Move.HELLO, Move.JOIN})  # After a restart everybody does so at once.
# What is counted apart, beside all other moves.
KEY_RARE = {
    Move.RIGHTS: KEY_RIGHTS,
    Move.NICK: KEY_NICKS,
    Move.TALK: KEY_TALKS,
    Move.NAME: KEY_NAMES,
}
ADDRESS_RARE = {
    Move.RIGHTS: ADDRESS_RIGHTS,
    Move.TALK: ADDRESS_TALKS,
    Move.NAME: ADDRESS_NAMES,
}


class _Account:
    """The buckets of one key or one address."""

    __slots__ = ("_rare", "moves", "texts")

    def __init__(self, rates: _Rates, now_s: float) -> None:
        self.texts = Bucket(rates.texts, now_s)
        self.moves = Bucket(rates.moves, now_s)
        self._rare: dict[Move, Bucket] = {}

    def rare(self, move: Move, rate: Rate, now_s: float) -> Bucket:
        """Return the bucket of a move that has one beside the common one."""
        return self._rare.get(move) or self._rare.setdefault(move, Bucket(rate, now_s))


class _Rates(NamedTuple):
    texts: Rate
    moves: Rate
    rare: dict[Move, Rate]  # Of moves that are counted apart, too.


K = TypeVar("K", bytes, str)


class _Accounts(Generic[K]):
    """The accounts of those who did something lately."""

    def __init__(self, rates: _Rates, accounts_max: int) -> None:
        self.rates = rates
        self._accounts_max = accounts_max
        self._accounts: OrderedDict[K, _Account] = OrderedDict()

    def __len__(self) -> int:
        return len(self._accounts)

    def of(self, who: K, now_s: float) -> _Account:
        """Return the account of this key or address, a new one if it has none."""
        account = self._accounts.get(who)
        if account is not None:
            self._accounts.move_to_end(who)
            return account
        if len(self._accounts) >= self._accounts_max:
            self._accounts.popitem(last=False)
        account = self._accounts[who] = _Account(self.rates, now_s)
        return account

    def buckets(self, who: K, move: Move, now_s: float) -> list[tuple[Bucket, Rate]]:
        """Return those that a move is taken from."""
        account, rate = self.of(who, now_s), self.rates.rare.get(move)
        found = [(account.moves, self.rates.moves)]
        if rate is not None:
            found.append((account.rare(move, rate, now_s), rate))
        return found


class Floods:
    """What every key and address has left. The bucket of a session lies in the session."""

    def __init__(self, rate: Rate, *, returned_s: float) -> None:
        """`rate` is what a session has; by `returned_s` all are back after the broker's start."""
        self._returned_s = returned_s
        self._rate = rate
        self._keys: _Accounts[bytes] = _Accounts(
            _Rates(rate.times(KEY_TIMES), KEY_MOVES, KEY_RARE), KEYS_MAX
        )
        self._addresses: _Accounts[str] = _Accounts(
            _Rates(rate.times(ADDRESS_TIMES), ADDRESS_MOVES, ADDRESS_RARE), ADDRESSES_MAX
        )

    @property
    def rate(self) -> Rate:
        """What a session has. Set anew it holds at once, for keys and addresses too."""
        return self._rate

    @rate.setter
    def rate(self, rate: Rate) -> None:
        self._rate = rate
        keys, addresses = self._keys, self._addresses
        keys.rates = keys.rates._replace(texts=rate.times(KEY_TIMES))
        addresses.rates = addresses.rates._replace(texts=rate.times(ADDRESS_TIMES))

    def texts_wait_ms(
        self,
        bucket: Bucket,
        nick: str,
        count: int,
        now_s: float,
        *,
        key: bytes = b"",
        address: str = "",
        alike: int = 1,
    ) -> int:
        """Take `count` texts from all whom they count for; else take nothing, return the wait.

        `bucket` is the session's, `nick` the folded nick. When the wait is over, `alike` times as
        many pass, or a burst.
        """
        rate = self._rate
        if nick in rate.unlimited:
            return 0
        # On the path of every SEND: one bucket, and seldom those that many share.
        if bucket.fill(rate, now_s) < count:
            return bucket.wait_ms(rate, count, alike=alike)
        if bucket.leased < count:
            wait_ms = self._lease(bucket, count, now_s, key=key, address=address, alike=alike)
            if wait_ms:
                return wait_ms
        bucket.leased -= count
        bucket.allowance -= count
        return 0

    def _lease(
        self, bucket: Bucket, count: int, now_s: float, *, key: bytes, address: str, alike: int
    ) -> int:
        """Take what is missing from key and address, and some ahead; else return the wait."""
        shared: list[tuple[Bucket, Rate]] = []
        if key:
            shared.append((self._keys.of(key, now_s).texts, self._keys.rates.texts))
        if address:
            shared.append((self._addresses.of(address, now_s).texts, self._addresses.rates.texts))
        missing = count - bucket.leased
        ahead = self._rate.burst // LEASE_PART
        left = min((each.fill(rate, now_s) for each, rate in shared), default=missing + ahead)
        if left < missing:
            return max(each.wait_ms(rate, count, alike=alike) for each, rate in shared)
        taken = min(left, missing + ahead)
        for each, _ in shared:
            each.allowance -= taken
        bucket.leased += taken
        return 0

    def moves_wait_ms(
        self,
        move: Move,
        now_s: float,
        *,
        key: bytes = b"",
        address: str = "",
        is_resume: bool = False,
    ) -> int:
        """Count one move for its key and its address; else count nothing, return the wait.

        A resume is a HELLO or a JOIN of what the session has already: it is free, as are HELLO
        and JOIN until all are back after the broker's start.
        """
        if move in RETURNING and (is_resume or now_s < self._returned_s):
            return 0
        wanted: list[tuple[Bucket, Rate]] = []
        if key:
            wanted += self._keys.buckets(key, move, now_s)
        if address:
            wanted += self._addresses.buckets(address, move, now_s)
        for bucket, rate in wanted:
            bucket.fill(rate, now_s)
        wait_ms = max((bucket.wait_ms(rate, 1) for bucket, rate in wanted), default=0)
        if not wait_ms:
            for bucket, _ in wanted:
                bucket.allowance -= 1
        return wait_ms
