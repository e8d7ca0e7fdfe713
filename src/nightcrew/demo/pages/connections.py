"""Connecting a tool: our side of the OAuth flow, and the pretended provider's."""

from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.responses import Response

from nightcrew.demo import connections
from nightcrew.demo.accounts import Refused
from nightcrew.demo.provider import TOOLS
from nightcrew.demo.visit import Visit, Way

_ASKED = ("tool", "state", "redirect_uri", "code_challenge")


def all_connections(visit: Visit) -> Response:
    """List the person's tools, and those they may connect."""
    mine = {tool.url: tool for tool in connections.mine(visit.workspace.data, visit.guest)}
    tools = sorted(TOOLS.values(), key=lambda tool: tool.url not in mine)
    return visit.page("connections.html", mine=mine, tools=tools)


def begin(visit: Visit) -> Response:
    """Begin to connect a tool: keep the state, go to the provider."""
    tool = TOOLS.get(visit.form.get("tool", ""))
    if tool is None:
        raise HTTPException(404, "There is no such tool.")
    url = connections.begin(visit.workspace.data, visit.workspace.now(), visit.guest, tool, _callback(visit))
    return visit.go(url)


def consent(visit: Visit) -> Response:
    """Be the provider: ask the person."""
    asked = {name: visit.asked(name) for name in _ASKED}
    tool = TOOLS.get(asked["tool"])
    if tool is None or visit.asked("code_challenge_method") != "S256":
        raise HTTPException(422, "The provider does not understand this request.")
    return visit.page("consent.html", tool=tool, asked=asked)


def decide(visit: Visit) -> Response:
    """Be the provider: send the browser back with a code, or with a no."""
    if visit.form.get("redirect_uri") != _callback(visit):
        raise HTTPException(422, "The provider sends people back to known addresses only.")
    answer = {"state": visit.form.get("state", "")}
    if visit.form.get("decision") == "allow":
        moment, challenge = visit.workspace.now(), visit.form.get("code_challenge", "")
        answer["code"] = visit.workspace.provider.grant(moment, challenge, _callback(visit))
    else:
        answer["error"] = "access_denied"
    return visit.go(f"/oauth/callback?{urlencode(answer)}")


def callback(visit: Visit) -> Response:
    """Finish a connection, or say why not; its state is gone afterwards either way."""
    data, moment = visit.workspace.data, visit.workspace.now()
    state, code = visit.asked("state"), visit.asked("code")
    if visit.asked("error"):
        connections.abandon(data, visit.guest, state)
        return visit.go("/connections", "quiet", "You declined, and nothing was connected.")
    try:
        name = connections.finish(data, moment, visit.guest, state, code, visit.workspace.provider)
    except Refused as refusal:
        facts = {"title": "Not connected", "text": str(refusal), "onward": ("/connections", "Back to your connections")}
        return visit.page("error.html", 400, **facts)
    return visit.go("/connections", said=f"{name} is connected.")


def refresh(visit: Visit) -> Response:
    """Refresh a token, or die halfway and leave its lock behind."""
    crash = visit.form.get("crash") == "yes"
    try:
        connections.refresh(visit.workspace.data, visit.workspace.now(), visit.guest, visit.key, crash=crash)
    except Refused as refusal:
        return visit.go("/connections", "bad", str(refusal))
    if crash:
        return visit.go(
            "/connections", "quiet", "The refresh crashed halfway, as you wished, and its lock is still there."
        )
    return visit.go("/connections", said="The token is fresh again.")


def disconnect(visit: Visit) -> Response:
    """Forget a tool."""
    if not connections.disconnect(visit.workspace.data, visit.guest, visit.key):
        raise HTTPException(404, "There is no such connection.")
    return visit.go("/connections", "quiet", "The connection is removed, with whatever it held.")


def _callback(visit: Visit) -> str:
    return f"{str(visit.request.base_url).rstrip('/')}/oauth/callback"


WAYS = (
    Way("GET", "/connections", all_connections),
    Way("POST", "/connections", begin),
    Way("GET", "/provider/authorize", consent),
    Way("POST", "/provider/authorize", decide),
    Way("GET", "/oauth/callback", callback),
    Way("POST", "/connections/{id}/refresh", refresh, page="/connections"),
    Way("POST", "/connections/{id}/disconnect", disconnect, page="/connections"),
)
