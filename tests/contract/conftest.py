"""What tests of mail begin with: an application with people, and crews that send them mail."""

import pytest
from tests.tray import PEOPLE, PREFERENCES, application, crew_of


@pytest.fixture
def url(yard):
    yard.run(PEOPLE, PREFERENCES)
    return yard.link.engine.url.set(drivername=yard.kind).render_as_string(hide_password=False)


@pytest.fixture
def engine(url):
    engine = application(url)
    yield engine
    engine.dispose()


@pytest.fixture
def crew(url):
    """Make crews over one tray, and close them."""
    made = []

    def make(tray, *sequences, **terms):
        crew = crew_of(url, tray, *sequences, **terms)
        crew.migrate()
        made.append(crew)
        return crew

    yield make
    for one in made:
        one.close()
