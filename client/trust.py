"""Which broker one talks to, and whether it is the one that is known: trust on first use.

    known: CURVE at once, with that key and no other
    not known: plain, and when the broker wants CURVE: its key is asked for, told, and remembered
    join line: its key, which must be the known one, where one is known

ADR 0026 tells why, and what it does not protect from. A time-out bounds all of it together.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from client import identity
from client.known_brokers import KnownBrokers
from client.limits import RECONNECT_MS
from common.endpoints import Address
from common.errors import Barred, Barrier, Code, Refused, Unreachable, Untrusted
from common.invitations import Invitation

if TYPE_CHECKING:
    from client.connection import CurveKeys

T = TypeVar("T")
Tell = Callable[[str], None]
# Connects to the address, with these keys or in the clear, within so many seconds.
Attempt = Callable[[Address, "CurveKeys | None", float], T]

PROBE_S_MAX = 1.0  # A stranger that takes this long to greet is as good as nobody.


def tell_on_stderr(message: str) -> None:
    """Say it where people read it; the default for programs, because trust is not silent."""
    sys.stderr.write(f"hubbub: {message}\n")


def dial(
    to: Invitation,
    attempt: Attempt[T],
    timeout_s: float,
    *,
    curve: CurveKeys | None = None,
    tell: Tell = tell_on_stderr,
) -> T:
    """Make attempts until one succeeds, with the keys that are right for the broker there.

    curve: these and no others; then no file is read or written, and nobody new is trusted.

    Raises `Untrusted` for a broker that is not the known one, `Refused` when it says no,
    `Unreachable` when nobody answers in time, OSError or ValueError for files of keys that can't
    be used.
    """
    return _Dialler(to, timeout_s, curve, tell).run(attempt)


class _Dialler:
    """One call of `dial`."""

    def __init__(
        self, to: Invitation, timeout_s: float, curve: CurveKeys | None, tell: Tell
    ) -> None:
        self._address = to.address
        self._end_s = time.monotonic() + timeout_s
        self._tell = tell
        self._is_explicit = curve is not None
        self._new_key: bytes | None = None  # Remembered once a handshake has proved it.
        self._curve = curve or self._keys_for(to)

    def run(self, attempt: Attempt[T]) -> T:
        barred: Barred | None = None
        while True:
            try:
                found = attempt(self._address, self._curve, self._left_s())
            except Barred as error:
                barred = error
                if not self._understand(error):
                    time.sleep(min(RECONNECT_MS / 1000, self._left_s()))
            except Unreachable as error:
                if barred is None:
                    raise
                message = f"the broker at {self._address.text} is there, but {barred}"
                raise Unreachable(message) from error
            except Refused:  # Said through the handshake, which has proved the key.
                self._remember()
                raise
            else:
                self._remember()
                return found

    def _left_s(self) -> float:
        return max(self._end_s - time.monotonic(), 0.0)

    # --- before the first attempt -------------------------------------------
    def _keys_for(self, to: Invitation) -> CurveKeys | None:
        known = KnownBrokers(identity.data_dir()).get(to.address)
        if to.key is not None and known is not None and known != to.key:
            raise Untrusted(
                f"the join line has {_fingerprint(to.key)} as the key of {to.address.text}, but "
                f"{_fingerprint(known)} is known; {_remedy(to.address)}"
            )
        if known is None:
            self._new_key = to.key
        key = known or to.key
        return self._with_own(key) if key else None

    def _with_own(self, key: bytes) -> CurveKeys:
        from client.connection import CurveKeys
        from client.keys import load_pair
        from common.certificates import new_pair

        try:
            pair = load_pair(identity.data_dir())
        except OSError as error:
            self._tell(f"no key of yours is kept, so the broker will not know you again ({error})")
            pair = new_pair()
        return CurveKeys(key, pair.public, pair.secret)

    # --- after an attempt ---------------------------------------------------
    def _understand(self, error: Barred) -> bool:
        """Raise why no handshake comes about; tell whether something else is to be tried now."""
        from client.introduction import ask_key, mechanism_at

        name = self._address.text
        if error.barrier is Barrier.NOT_ALLOWED:
            raise Refused(
                Code.NOT_ALLOWED,
                f"the broker at {name} does not allow your key; "
                "give its operator what `hubbub key` prints",
            ) from error
        mechanism = mechanism_at(self._address, min(self._left_s(), PROBE_S_MAX))
        if mechanism == "CURVE":
            key = ask_key(self._address, self._left_s())
            if self._curve is None:
                self._meet(key)
                return True
            if key != self._curve.broker:
                raise self._other_key(self._curve.broker, key) from error
        elif mechanism == "NULL" and self._curve is not None:
            raise self._not_encrypted(self._curve.broker) from error
        elif mechanism != "NULL" and error.barrier is not Barrier.BROKEN_OFF:
            message = f"no broker answers at {name}: what is there speaks another protocol"
            raise Unreachable(message) from error
        # Otherwise it is ending or beginning just now: there may be time to try again.
        return False

    def _meet(self, key: bytes) -> None:
        self._tell(
            f"first contact with {self._address.text}, its key is {_fingerprint(key)}; "
            "compare it with what `hubbub-broker key` says there"
        )
        self._new_key = key
        self._curve = self._with_own(key)

    def _remember(self) -> None:
        if self._new_key is None or self._is_explicit:
            return
        try:
            KnownBrokers(identity.data_dir()).set(self._address, self._new_key)
        except (OSError, ValueError) as error:
            self._tell(f"the key of {self._address.text} is not remembered ({error})")
        self._new_key = None

    def _other_key(self, known: bytes, found: bytes) -> Untrusted:
        source = "the key that is known" if self._new_key is None else "the join line's key"
        return Untrusted(
            f"the broker at {self._address.text} has another key: {source} is "
            f"{_fingerprint(known)}, there is {_fingerprint(found)}. Somebody may be posing as "
            f"the broker; {_remedy(self._address)}"
        )

    def _not_encrypted(self, known: bytes) -> Untrusted:
        return Untrusted(
            f"the broker at {self._address.text} does not encrypt, but {_fingerprint(known)} is "
            "the key that it should have. "
            f"Somebody may be posing as the broker; {_remedy(self._address)}"
        )


def _remedy(address: Address) -> str:
    return f"if its operator says that this is right: hubbub trust {address.text}"


def _fingerprint(key: bytes) -> str:
    from common.keys import fingerprint

    return fingerprint(key)
