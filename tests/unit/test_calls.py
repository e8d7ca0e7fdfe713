"""What others keep is removed by a call for each key; it goes where it was meant to, or nowhere."""

import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from nightcrew.clock import SystemClock
from nightcrew.errors import ConfigurationError, StoreError
from nightcrew.stores.calls import Calls


class Hasty(SystemClock):
    """A clock that waits for nothing."""

    def wait(self, event, seconds):
        return event.is_set()


@pytest.fixture
def provider():
    """A server that answers 204, or what `says` has for a path: one status, or several of which each is said once."""

    class Provider(BaseHTTPRequestHandler):
        def answer(self):
            heard.append((self.command, self.path, self.headers))
            status = says.get(self.path, 204)
            if isinstance(status, list):
                status = status.pop(0) if len(status) > 1 else status[0]
            self.send_response(status)
            if status in (301, 302, 307):
                self.send_header("Location", "/v1/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def __getattr__(self, name):
            if name.startswith("do_"):
                return self.answer
            raise AttributeError(name)

        def log_message(self, *_):
            pass

    heard, says = [], {}
    with ThreadingHTTPServer(("127.0.0.1", 0), Provider) as server:
        server.heard, server.says = heard, says
        server.url = f"http://127.0.0.1:{server.server_port}/v1/things/{{key}}"
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def paths(provider) -> list[str]:
    return sorted(path for _, path, _ in provider.heard)


def test_a_call_is_made_for_each_key_with_the_secret_and_a_key_of_its_own(provider):
    store = Calls(provider.url, Hasty(), secret="sesame")
    assert store.remove(["sub_1", "sub_2", "sub_1"]) == {}
    assert store.remove(["sub_1"]) == {}
    assert paths(provider) == ["/v1/things/sub_1", "/v1/things/sub_1", "/v1/things/sub_2"]
    assert {(method, headers["Authorization"]) for method, _, headers in provider.heard} == {
        ("DELETE", "Bearer sesame")
    }
    keys = Counter((path, headers["Idempotency-Key"]) for _, path, headers in provider.heard)
    assert sorted(keys.values()) == [1, 2]
    assert len({key for _, key in keys}) == 2
    assert "sesame" not in store.place


def test_the_method_may_be_another_and_the_key_a_value_of_the_query(provider):
    url = provider.url.replace("/{key}", "?id={key}")
    assert Calls(url, Hasty(), method="post").remove(["a&b=c"]) == {}
    assert [(method, path) for method, path, _ in provider.heard] == [("POST", "/v1/things?id=a%26b%3Dc")]


@pytest.mark.parametrize("status", [200, 202, 204, 404, 410])
def test_what_is_gone_is_done(provider, status):
    provider.says["/v1/things/a"] = status
    assert Calls(provider.url, Hasty()).remove(["a"]) == {}
    assert len(provider.heard) == 1


@pytest.mark.parametrize("key", ["../accounts", "/etc", "a/../..", "a?b", "a#b", "a%2fb", "a b", "ü", "http://host/x"])
def test_no_key_leads_to_another_path(provider, key):
    assert Calls(provider.url, Hasty()).remove([key]) == {}
    (path,) = paths(provider)
    assert path.startswith("/v1/things/")
    assert not {"/", "?", "#", " "} & {*path.removeprefix("/v1/things/")}


def test_a_key_that_would_be_about_more_than_one_thing_is_not_called_with(provider):
    assert set(Calls(provider.url, Hasty()).remove(["", ".", "..", "\ud800"])) == {"", ".", "..", "\ud800"}
    assert provider.heard == []


def test_what_may_pass_is_tried_again_and_the_rest_is_not(provider):
    provider.says |= {"/v1/things/a": [503, 429, 204], "/v1/things/b": 403, "/v1/things/c": 500}
    refused = Calls(provider.url, Hasty()).remove(["a", "b", "c"])
    assert refused == {"b": "answered 403 Forbidden", "c": "answered 500 Internal Server Error (4 times)"}
    assert Counter(paths(provider)) == {"/v1/things/a": 3, "/v1/things/b": 1, "/v1/things/c": 4}


def test_a_redirect_is_not_followed(provider):
    provider.says["/v1/things/a"] = 302
    store = Calls(provider.url, Hasty(), method="POST", secret="sesame")
    assert store.remove(["a"]) == {"a": "answered 302 Found"}
    assert paths(provider) == ["/v1/things/a"]


def test_a_wrong_secret_is_nobody_s_fault_but_the_store_s(provider):
    provider.says["/v1/things/a"] = 401
    with pytest.raises(StoreError, match="answered 401: see its secret") as told:
        Calls(provider.url, Hasty(), secret="sesame").remove(["a", "b"])
    assert "sesame" not in str(told.value)


def test_when_nobody_answers_that_is_said_of_the_store(provider):
    provider.server_close()
    with pytest.raises(StoreError, match=r"http://127.0.0.1:\d+/v1/things/\{key\} does not answer \(.*refused") as told:
        Calls(provider.url, Hasty()).remove(["a", "b"])
    assert told.value.transient


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("https://api.example.com/things", "no single {key}"),
        ("https://api.example.com/{key}/{key}", "no single {key}"),
        ("https://api.example.com/#{key}", "no single {key}"),
        ("https://{key}.example.com/", "no URL of http"),
        ("https://user:swordfish@example.com/{key}", "no URL of http"),
        ("ftp://example.com/{key}", "no URL of http"),
        ("https:///{key}", "no URL of http"),
        ("https://example.com:x/{key}", "no URL of http"),
    ],
)
def test_a_url_that_cannot_be_called_is_refused(url, told):
    with pytest.raises(ConfigurationError) as error:
        Calls(url, Hasty())
    assert told in str(error.value)
    assert "swordfish" not in str(error.value)


def test_an_unknown_method_is_refused():
    with pytest.raises(ConfigurationError, match="there is no method 'DELTE'; did you mean 'DELETE'"):
        Calls("https://example.com/{key}", Hasty(), method="DELTE")
