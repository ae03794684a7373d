"""The promises, under random schedules of crashes, cuts, losses and delays. Each has a seed."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.sessions import Rate
from tests.sim.world import ROOMS, World

STEPS = 1_200
PLENTY = Rate(10_000, 10_000)


def check_promises(world: World) -> None:
    """Check what must hold when everything has been heard."""
    logs = {room: world.read_log(room) for room in ROOMS}
    places = {text: (room, seq) for room, log in logs.items() for seq, text in log}
    assert len(places) == sum(map(len, logs.values())), "a text was stored twice"
    for room, log in logs.items():
        assert [seq for seq, _ in log] == list(range(1, len(log) + 1)), room
    for client in world.clients:
        assert client.trouble == []
        for text, place in client.kept.items():
            assert places.get(text) == place, "acknowledged, but not kept there"
        assert not client.failed & set(places), "refused, but kept"
        assert set(client.kept) | client.failed == {
            f"{client.name} {number + 1}" for number in range(client.said)
        }
        for room, history_count in client.rooms.items():
            seen = [(entry.seq, entry.text) for entry in client.seen.get(room, [])]
            wanted = (
                logs[room] if history_count is None else logs[room][len(logs[room]) - len(seen) :]
            )
            assert seen == wanted, (client.name, room)
        for room in client.rooms:
            assert world.roster_of(client, room) == world.roster(room), (client.name, room)
    for room in ROOMS:
        said = [text.split() for _, text in logs[room]]
        for client in world.clients:
            numbers = [int(number) for name, number in said if name == client.name]
            assert numbers == sorted(numbers), "a sender's texts changed places"


@pytest.mark.parametrize("seed", range(30))
def test_promises_hold_under_any_schedule(seed: int, tmp_path: Path) -> None:
    """Kept means kept, once, in one order, without holes, for everybody; nothing is refused."""
    world = World(seed, tmp_path, clients=4, rate=PLENTY, loss=0.05)
    for _ in range(STEPS):
        world.step()
    world.heal()
    check_promises(world)
    assert not any(client.failed for client in world.clients)
    assert world.restarts
    assert world.lost_publications
    world.close()


@pytest.mark.parametrize("seed", range(30))
def test_promises_hold_when_losses_go_unnoticed(seed: int, tmp_path: Path) -> None:
    """A text may then be refused, because its room's JOIN was lost, but is never kept as well."""
    world = World(seed, tmp_path, clients=4, rate=PLENTY, loss=0.05, has_unnoticed_losses=True)
    for _ in range(STEPS):
        world.step()
    world.heal()
    check_promises(world)
    world.close()


@pytest.mark.parametrize("seed", range(10))
def test_promises_hold_for_clients_that_are_too_fast(seed: int, tmp_path: Path) -> None:
    """Whoever is told to slow down loses nothing and keeps the order."""
    world = World(seed, tmp_path, clients=3, rate=Rate(per_s=40, burst=256))
    for _ in range(STEPS):
        world.step()
    for _ in range(150):
        for client in world.clients:
            for room in client.rooms:
                world.say(client, room)
    world.heal()
    check_promises(world)
    assert world.core.refusals["slow_down"]
    world.close()
