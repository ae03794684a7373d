"""A broker on one host, its clients on others, and bad wires between them.

Hosts are network namespaces of this machine (`tests.torture.lan`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.torture.__main__ import text_of
from tests.torture.lan import NAMESPACES, Lan, Weather, lan_or_skip
from tests.torture.scene import HOSTS, scene
from tests.waiting import eventually

BAD_WEATHER = Weather(lost=0.05, delay_s=0.01, jitter_s=0.02, doubled=0.02)
QUICK_HEARTBEAT = ("--heartbeat", "0.5")  # A host that is silent for a second is given up.
LONG_GRACE = ("--grace", "600", *QUICK_HEARTBEAT)  # No cut here is longer.
SHORT_GRACE = ("--grace", "0.3", *QUICK_HEARTBEAT)  # And none shorter.
PROGRESS = 20


@pytest.fixture
def lan() -> Iterator[Lan]:
    with lan_or_skip(*HOSTS) as made:
        yield made


def test_bad_weather_costs_time_and_nothing_else(lan: Lan, tmp_path: Path) -> None:
    """Packets lost, late, double and out of order: everybody is whole, and nobody is gone."""
    with scene(lan, tmp_path, *LONG_GRACE) as each:
        lan.weather = BAD_WEATHER
        each.stage.await_progress(PROGRESS)
        report = each.finish()
        assert report.is_clean, text_of(report)
        assert not each.told("left")
        assert lan.lost > 0


def test_a_cut_shorter_than_the_grace_is_no_news(lan: Lan, tmp_path: Path) -> None:
    """Each time the broker has given the far host up already, and nobody hears of it."""
    with scene(lan, tmp_path, *LONG_GRACE) as each:
        for _ in range(2):
            with lan.without("far"):
                each.await_given_up("far")
            each.stage.await_progress()
        report = each.finish()
        assert report.is_clean, text_of(report)
        assert not each.told("left")
        assert each.told("joined") == each.all_news


def test_after_a_long_cut_nobody_waits_for_tcp(lan: Lan, tmp_path: Path) -> None:
    """Clients drop a connection that is not answered: else TCP tries again minutes later."""
    with scene(lan, tmp_path, *LONG_GRACE) as each:
        with lan.without("far"):
            each.await_hung_up(each.far)
        report = each.finish()
        assert report.is_clean, text_of(report)
        assert not each.told("left")


def test_a_longer_cut_is_told_once_and_so_is_the_return(lan: Lan, tmp_path: Path) -> None:
    with scene(lan, tmp_path, *SHORT_GRACE) as each:
        with lan.without("far"):
            eventually(lambda: each.told("left") == each.all_news, "the far ones to be gone")
        each.stage.await_progress()
        report = each.finish()
        assert report.is_clean, text_of(report)
        assert each.told("left") == each.all_news
        assert each.told("joined") == each.all_news + each.all_news


def test_clients_whose_host_vanishes_are_gone(lan: Lan, tmp_path: Path) -> None:
    """No FIN, no RST, for ever: the broker hangs up, and the others hear of it once."""
    with scene(lan, tmp_path, *SHORT_GRACE) as each:
        lan.cut("far")
        each.far.kill()
        each.stage.groups.remove(each.far)
        each.await_given_up("far")
        eventually(lambda: each.told("left") == each.all_news, "the far ones to be gone")
        report = each.finish()
        assert report.is_clean, text_of(report)
        assert each.told("left") == each.all_news


def test_clients_notice_that_the_brokers_host_has_vanished(lan: Lan, tmp_path: Path) -> None:
    """Half-open connections to a broker that is no more: who talks and who only listens return."""
    with scene(lan, tmp_path, *LONG_GRACE) as each:
        listeners = each.stage.add(prefix=lan.hosts["far"].prefix, is_talking=False)
        listeners.await_joined()
        with lan.without("broker"):
            each.broker.kill_all()
            eventually(
                lambda: (
                    {nick for nick, state in each.near.booked("state") if state == "offline"}
                    == set(each.near.members)
                ),
                "the talkers to notice",
            )
            each.broker.start(each.broker.port)
        each.stage.await_progress()
        report = each.finish()
        assert report.is_clean, text_of(report)


def test_nothing_of_a_lan_stays_behind(lan: Lan) -> None:
    """And another LAN is not touched."""
    with lan_or_skip("lonely") as other:
        (host,) = other.hosts.values()
        assert (NAMESPACES / host.namespace).exists()
    assert not (NAMESPACES / host.namespace).exists()
    assert all((NAMESPACES / each.namespace).exists() for each in lan.hosts.values())


def test_ci_does_not_skip_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no hosts can be made people are told why, and CI fails."""
    monkeypatch.setattr(os, "geteuid", lambda: 1_000)
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="only root"):
        lan_or_skip(*HOSTS)
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="only root"):
        lan_or_skip(*HOSTS)
