"""docs/METRICS.md and the alerts name the metrics that there are."""

from __future__ import annotations

import re

from broker.live import DRAIN_MESSAGES_MAX
from broker.metrics.exporter import Exporter
from broker.metrics.figures import COUNTER, HISTOGRAM, METRICS
from broker.metrics.health import FREE_BYTES_MIN, READY_SILENCE_S, silence_s_max
from broker.metrics.tally import FAILING_S
from tests import markdown

TEXT = markdown.read("docs/METRICS.md")
RULES = markdown.read("contrib/prometheus-rules.yml")


def test_the_table_has_every_metric() -> None:
    rows = markdown.table(TEXT, "metric", "type", "label", "what it is")
    expected = [[m.shown, m.kind, m.label, m.help.replace("`", "")] for m in METRICS]
    assert rows == expected, "\n" + "\n".join(
        f"| `{m.shown}` | {m.kind} | {f'`{m.label}`' if m.label else ''} | {m.help} |"
        for m in METRICS
    )


def test_the_pages() -> None:
    exporter = Exporter(0, markdown.ROOT, 60.0)
    exporter.close()
    assert list(exporter._answers) == [
        page for page, _ in markdown.table(TEXT, "page", "what it tells")
    ]


def test_the_figures_in_the_text() -> None:
    assert f"silent for {READY_SILENCE_S:g} s is not ready" in TEXT
    assert silence_s_max(60.0) == 30.0  # "Half of `--silence`".
    assert f"Less than {FREE_BYTES_MIN >> 20} MiB" in TEXT
    assert f"in the last {FAILING_S:g} s" in TEXT
    assert f"its bound of {DRAIN_MESSAGES_MAX}" in TEXT


def test_alerts_and_text_name_metrics_and_labels_that_there_are() -> None:
    suffixes = {HISTOGRAM: ("_bucket", "_count", "_sum", ""), COUNTER: ("",)}
    names = {m.shown + suffix for m in METRICS for suffix in suffixes.get(m.kind, ("",))}
    named = set(re.findall(r"\bhubbub_\w+", RULES))
    assert named
    assert set() == named - names
    assert set() == set(re.findall(r"`(hubbub_\w+)", TEXT)) - names
    labels = {m.label for m in METRICS}
    assert set(re.findall(r"\$labels\.(\w+)", RULES)) <= labels
    alerts = re.findall(r"^      - alert: (\w+)$", RULES, re.MULTILINE)
    assert len(set(alerts)) == len(alerts) == RULES.count("        expr: ")
