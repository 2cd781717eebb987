"""
pytest's way into `beaconhq.testing`.

pytest loads this in every run where beaconhq is installed, so it is installed as a module of its own, outside
of the package: `import beaconhq` would cost each of these runs 10 to 30 ms. Without an ini option it does
nothing.
"""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the ini options."""
    parser.addini(
        "beaconhq_fixture",
        "true: provide the fixture `beacon`, a beaconhq client that records what it captures",
        type="bool",
        default=False,
    )
    parser.addini(
        "beaconhq_disable",
        "true: no beaconhq client ships anything in this run",
        type="bool",
        default=False,
    )


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Do what they ask for: before a conftest.py imports the application, which makes its client."""
    if early_config.getini("beaconhq_disable"):
        from beaconhq.testing.plugin import keep_from_shipping

        keep_from_shipping(early_config)
    if early_config.getini("beaconhq_fixture"):
        from beaconhq.testing.plugin import Fixtures

        early_config.pluginmanager.register(Fixtures(), "beaconhq-fixtures")


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say that the switch is thrown, for those who wait for events."""
    return ["beaconhq: nothing is shipped (beaconhq_disable)"] if config.getini("beaconhq_disable") else []
