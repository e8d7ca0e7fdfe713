"""A campaign plays the same models longer; and what was played is told at the end."""

import pytest


@pytest.fixture
def campaign(request):
    """Whether this is `make campaign`."""
    return request.config.getoption("--campaign")


@pytest.fixture
def figure(record_property):
    """Tell a figure at the end of the test run."""
    return lambda name, text: record_property(f"figure: {name}", text)


def pytest_terminal_summary(terminalreporter):
    """Show every figure that was told, by whichever worker."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, ())]
    figures = [pair for report in reports for pair in report.user_properties if pair[0].startswith("figure: ")]
    if figures:
        terminalreporter.section("what the models played")
        for name, text in sorted(figures):
            terminalreporter.write_line(f"{name.removeprefix('figure: ')}: {text}")
