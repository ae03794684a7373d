"""Asks a broker's metrics port, as Prometheus and health checks do."""

from __future__ import annotations

import re
import urllib.error
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from tests.broker_process import BrokerProcess
from tests.waiting import DEADLINE_S


class Scraper:
    """One broker that was started with `--metrics -1`."""

    def __init__(self, broker: BrokerProcess) -> None:
        found = re.findall(r"http://127\.0\.0\.1:\d+", broker.log())
        self._base = found[-1]

    def get(self, path: str) -> tuple[int, str]:
        """Return status and text of a path."""
        try:
            with urllib.request.urlopen(self._base + path, timeout=DEADLINE_S) as answer:  # noqa: S310 - loopback
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, refusal.read().decode()

    def figures(self) -> dict[str, float]:
        """Return every sample, under its name as a query has it."""
        status, text = self.get("/metrics")
        assert status == 200
        figures = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = ",".join(f'{name}="{value}"' for name, value in sample.labels.items())
                figures[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
        return figures
