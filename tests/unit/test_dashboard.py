"""The metric names of the local dashboard match those of the Grafana dashboard."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "infra" / "local" / "dashboard"
GRAFANA = ROOT / "infra" / "observability" / "grafana" / "dashboards" / "openreserve.json"
NAME = re.compile(r"openreserve_[a-z_]+")


def test_the_names_of_metrics_are_in_one_file() -> None:
    naming = {path.name for path in PAGE.glob("*.*") if NAME.search(path.read_text())}

    assert naming == {"metrics.js"}


def test_the_page_and_grafana_show_the_same_metrics() -> None:
    grafana_names = {
        re.sub("_seconds_(bucket|count|sum)$", "_seconds", name)
        for name in NAME.findall(GRAFANA.read_text())
    }

    assert set(NAME.findall((PAGE / "metrics.js").read_text())) == grafana_names
