"""What a program does about closed rooms, and about order in rooms: a part of the client's face."""

from __future__ import annotations

from client.calls import Calls, spell_room
from client.directory import the_only
from client.events import Joined
from client.limits import CALL_TIMEOUT_S
from client.pending import Pending
from common import names, order
from common.errors import Code, Refused
from common.limits import (
    ACTION_CHARS_MAX,
    HISTORY_DEFAULT,
    NUMBER_MAX,
    REASON_CHARS_MAX,
)
from common.order import Done, MyRoom


class Doors(Calls):
    """Joining, closed rooms, talks, orders. See `client.api.Client`."""

    def join(
        self,
        room: str,
        *,
        history: int | None = HISTORY_DEFAULT,
        since_ms: int | None = None,
        timeout_s: float | None = CALL_TIMEOUT_S,
    ) -> Joined:
        """Become a member of a room and return how it is; its entries come as events.

        room: its name, `+title` of a private room that one was invited to, or `@nick` for the talk
        with somebody; or the name that a closed room has on the wire, which the answer tells.
        history: how many earlier entries come first; 0 for none, None for all there are.
        since_ms: instead, all entries from this time on (milliseconds since 1970).
        The event `Joined` follows once the history was delivered. Joining twice only tells.

        Raises `Refused`, `Unreachable`, `Closed`, `ValueError`.
        """
        if (history or 0) < 0 or not 0 <= (since_ms or 0) <= NUMBER_MAX:
            raise ValueError("history and since_ms are not negative")
        name = self.find(room, timeout_s=timeout_s)
        pending: Pending[Joined] = Pending()
        if names.is_talk(name) and not names.is_wire_name(name):
            try:
                return self._call(
                    pending,
                    lambda s, now: s.talk(name[1:], history, since_ms, pending, now),
                    timeout_s,
                )
            except Refused as error:
                # Who is away is known by the talk that there is, if by nothing else.
                if error.code != Code.NO_SUCH_NICK:
                    raise
                name = self._titled(name, error, timeout_s)
                pending = Pending()
        return self._call(
            pending, lambda s, now: s.join(name, history, since_ms, pending, now), timeout_s
        )

    def part(self, room: str, *, timeout_s: float | None = CALL_TIMEOUT_S) -> None:
        """Leave a room; the event `Left` follows. Raises `Refused`, `Unreachable`, `Closed`."""
        name = self._joined(room)
        pending: Pending[None] = Pending()
        self._call(pending, lambda s, now: s.part(name, pending, now), timeout_s)

    def talk(
        self,
        nick: str,
        *,
        history: int | None = HISTORY_DEFAULT,
        timeout_s: float | None = CALL_TIMEOUT_S,
    ) -> Joined:
        """Join the talk between two with somebody, begun where there was none; as `join`."""
        return self.join(f"@{nick}", history=history, timeout_s=timeout_s)

    def find(self, room: str, *, timeout_s: float | None = CALL_TIMEOUT_S) -> str:
        """Return the name on the wire of a room that may be joined; `@nick` stays as it is.

        Raises `Refused`, also when several private rooms have this title: it lists their names.
        """
        name = spell_room(room)
        if names.is_talk(name) or not names.is_closed(name) or names.is_wire_name(name):
            return name
        return self._titled(name, Refused(Code.NOT_INVITED), timeout_s)

    def _titled(self, title: str, nobody: Refused, timeout_s: float | None) -> str:
        """Return the one of one's closed rooms that is called so; raise `nobody` without one.

        Where one has been counts first: nobody else's invitation makes a name ambiguous.
        """
        mine = self.mine(timeout_s=timeout_s)
        found = [each for each in mine if names.fold(each.title) == names.fold(title)]
        found = [each for each in found if not each.pending] or found
        return the_only([each.room for each in found], title, nobody)

    def mine(self, *, timeout_s: float | None = CALL_TIMEOUT_S) -> list[MyRoom]:
        """Return the closed rooms that one belongs to: private ones, and talks.

        Raises `Refused`, `Unreachable`, `Closed`.
        """
        pending: Pending[list[MyRoom]] = Pending()
        return self._ask(pending, order.Mine, timeout_s)

    def read(self, room: str, seq: int) -> Pending[Done]:
        """Note that a joined closed room was read up to a seq; does not wait for the answer.

        Raises `Refused`, `Closed`.
        """
        name = self._joined(room)
        pending: Pending[Done] = Pending()
        self._check_process()
        self._calls.put(
            (pending, lambda s, now: s.ask(lambda n: order.Read(n, name, seq), pending, now))
        )
        return pending

    def order(
        self,
        room: str,
        action: str,
        nick: str = "",
        value: int = 0,
        reason: str = "",
        *,
        timeout_s: float | None = CALL_TIMEOUT_S,
    ) -> Done:
        """Do something about a joined room or somebody in it; `common.order.Action` lists what.

        value: seconds for "ban", "mute" (0: for ever) and "slow", a `Role` for "topic_by". The
        answer tells the room's name from here on: "private" and "public" change it. The reason of
        "public" may be the name to open it by; "op" with `Role.OWNER` gives the room away.

        Raises `Refused`, `Unreachable`, `Closed`, `ValueError`.
        """
        if not 0 <= value <= NUMBER_MAX or len(action) > ACTION_CHARS_MAX:
            raise ValueError("value is not negative, action is one of common.order.Action")
        if len(reason) > REASON_CHARS_MAX:
            raise Refused(Code.TEXT_INVALID, f"a reason has at most {REASON_CHARS_MAX} characters")
        if nick:
            nick = names.check_nick(nick)
        name = self._joined(room)
        pending: Pending[Done] = Pending()
        return self._ask(
            pending, lambda n: order.Order(n, name, action, nick, value, reason), timeout_s
        )
