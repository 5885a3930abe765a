"""Writes the dashboards' JSON: `python -m dashboards.build`. A test holds that it is current."""

from pathlib import Path

from dashboards import fleet, one_soak, policies
from dashboards.grafana import dashboard_json

JSON = Path(__file__).parent / "json"
DASHBOARDS = (fleet.DASHBOARD, one_soak.DASHBOARD, policies.DASHBOARD)


def files() -> dict[str, str]:
    """Name and content of each file below `json`."""
    return {f"{dashboard.uid}.json": dashboard_json(dashboard) for dashboard in DASHBOARDS}


def main() -> None:
    """Write them all."""
    for name, text in files().items():
        (JSON / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
