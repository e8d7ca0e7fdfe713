"""An answer that is being written, in a real browser: refreshed, opened twice, stopped, broken off, without script."""

import os
from collections.abc import Iterator

import pytest
from tests import chromium
from tests.chromium import Chromium, Tab
from tests.story.tealight import Place, served

from nightcrew.demo import responder
from nightcrew.demo.writers import Drawer

pytestmark = pytest.mark.skipif(
    chromium.PROGRAM is None and "CI" not in os.environ, reason="CHROMIUM IS NOT INSTALLED: no page was tested"
)
LONG = "Tell me everything you know"
WRITTEN = responder.answer(LONG)
WORDS, STATE, ENDING = ".assistant .words", ".assistant .who .state", ".assistant .ending"


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with chromium.running() as browser:
        yield browser


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Iterator[Place]:
    """A workspace whose drawer speaks as to people: all that it knows takes it half a minute."""
    with served(f"sqlite:///{tmp_path_factory.mktemp('chat')}/tealight.db", model=Drawer()) as place:
        yield place


@pytest.fixture(scope="module")
def quick(tmp_path_factory) -> Iterator[Place]:
    """A workspace whose drawer speaks quickly: all that it knows takes it some seconds."""
    with served(f"sqlite:///{tmp_path_factory.mktemp('chat')}/tealight.db", model=Drawer(pace=0.1)) as place:
        yield place


@pytest.fixture
def chat(here, browser) -> str:
    return opened(here, browser)


@pytest.fixture
def quick_chat(quick, browser) -> str:
    return opened(quick, browser)


def opened(here: Place, browser: Chromium) -> str:
    """Sign somebody in to the browser, and return the address of an empty chat of theirs."""
    ada = here.newcomer()
    browser.call("Storage.clearCookies")
    cookies = [{"name": each.name, "value": each.value, "url": here.base} for each in ada.client.cookies.jar]
    browser.call("Storage.setCookies", cookies=cookies)
    return f"{here.base}{ada.new_chat()}"


def ask(tab: Tab, question: str) -> None:
    """Send a question by the page's form, and wait until its answer has begun."""
    tab.fill("#text", question)
    tab.value("window.left = true")
    tab.click(".sheet button.main")
    tab.until("!window.left && document.readyState === 'complete'")


def begun(tab: Tab) -> str:
    """Wait until some of an answer is there, and return it."""
    tab.until("[...document.querySelectorAll('.live .words')].at(-1)?.textContent.length > 40")
    return tab.text(WORDS)


def over(tab: Tab) -> str:
    """Wait until nothing is being written in the page, and return the answer."""
    tab.until("!document.querySelector('.live') && document.querySelector('.assistant')")
    return tab.text(WORDS)


def test_an_answer_comes_word_by_word_and_a_refresh_in_the_middle_loses_and_repeats_nothing(browser, quick_chat):
    tab = browser.tab(quick_chat)
    ask(tab, LONG)
    first = begun(tab)
    assert WRITTEN.startswith(first)
    assert first != WRITTEN, "it is written, and not pasted"
    tab.reload()
    second = begun(tab)
    assert len(second) < len(WRITTEN), "it goes on"
    assert over(tab) == WRITTEN
    tab.reload()
    assert tab.text(WORDS) == WRITTEN, "and so it is kept"
    assert tab.text(ENDING) == ""


def test_a_line_that_breaks_is_taken_up_where_it_broke(browser, quick_chat):
    tab = browser.tab(quick_chat)
    ask(tab, LONG)
    begun(tab)
    for _ in range(2):
        tab.call("Network.enable")
        away = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        tab.call("Network.emulateNetworkConditions", offline=True, **away)
        tab.value("new Promise((done) => setTimeout(done, 300))")
        tab.call("Network.emulateNetworkConditions", offline=False, **away)
    assert over(tab) == WRITTEN


def test_stop_in_one_tab_stops_the_other_and_what_there_is_is_kept(browser, chat):
    one = browser.tab(chat)
    ask(one, LONG)
    begun(one)
    other = browser.tab(chat)
    begun(other)
    one.click(".live form button")
    said = over(one)
    assert over(other) == said
    assert WRITTEN.startswith(said)
    assert len(said) < len(WRITTEN)
    for tab in (one, other):
        assert tab.text(ENDING) == "Stopped."
        tab.reload()
        assert (tab.text(WORDS), tab.text(ENDING)) == (said, "Stopped.")


def test_an_answer_that_fails_in_the_middle_says_why(browser, chat):
    tab = browser.tab(chat)
    ask(tab, "My sourdough bubbles but the loaf stays flat. Get stuck in the middle!")
    said = over(tab)
    told = "The answer failed. The drawer was asked to get stuck in the middle, and did."
    assert said
    assert tab.text(ENDING) == told
    tab.reload()
    assert (tab.text(WORDS), tab.text(ENDING)) == (said, told)


def test_a_chat_is_marked_in_every_tab_while_something_is_written_there(browser, chat, here):
    one, lists = browser.tab(chat), browser.tab(f"{here.base}/chats")
    key = chat.rpartition("/")[2]
    shown = f"document.querySelector('[data-mark=\"{key}\"]').checkVisibility()"
    assert lists.value(shown) is False
    idle = browser.tab(chat)
    ask(one, LONG)
    assert one.value(shown) is True
    lists.call("Page.bringToFront")
    lists.until(shown)
    idle.call("Page.bringToFront")
    idle.until("document.querySelector('.live')")
    one.click(".live form button")
    over(one)
    lists.call("Page.bringToFront")
    lists.until(f"!{shown}")


def test_a_chat_that_is_deleted_ends_what_is_written_in_it(browser, chat, here):
    tab = browser.tab(chat)
    ask(tab, LONG)
    begun(tab)
    other = browser.tab(chat)
    other.value("window.left = true")
    other.click(".sure button.danger")
    other.until("!window.left && location.pathname === '/chats'")
    over(tab)
    assert "deleted" in tab.text(ENDING)


def test_what_a_model_writes_is_text_whatever_it_looks_like(browser, chat):
    tab = browser.tab(chat)
    hostile = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    ask(tab, hostile)
    over(tab)
    assert tab.text(".user .words") == hostile
    assert "owned" not in tab.value("document.title.replace(/<.*/, '')")


def test_without_a_script_the_page_looks_again_by_itself_and_stops_by_a_form(browser, chat):
    tab = browser.tab(chat, script=False)
    ask(tab, LONG)
    assert tab.text(STATE) == "writing…"
    tab.call("Emulation.setScriptExecutionDisabled", value=True)
    tab.click(".live form button")
    tab.until("!document.querySelector('.live') && document.querySelector('.assistant')")
    assert tab.text(ENDING) == "Stopped."
    ask(tab, "My sourdough bubbles but the loaf stays flat")
    assert "Wait for the dough" in tab.until(
        "!document.querySelector('.live') && [...document.querySelectorAll('.assistant .words')].at(-1)?.textContent"
    )
