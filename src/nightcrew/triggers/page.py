"""A small page for a person: no script, no cookie, nothing fetched, and told to nobody."""

from base64 import b64encode
from dataclasses import dataclass
from hashlib import sha256
from html import escape

from nightcrew.triggers.http import Response

_STYLE = """
:root { color-scheme: light dark; --ground: #f3f0e8; --sheet: #fffdf9; --line: #ddd6c8; --ink: #20262e; --soft: #5a626c;
  --act: #1f5a70; --act-ink: #ffffff; }
@media (prefers-color-scheme: dark) { :root { --ground: #12171d; --sheet: #1a2129; --line: #303a45; --ink: #e9e5dc;
  --soft: #a3acb6; --act: #8ec6da; --act-ink: #0d1c23; } }
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 1rem; background: var(--ground);
  color: var(--ink); font: 1.0625rem/1.6 system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
main { width: 100%; max-width: 30rem; padding: clamp(1.5rem, 6vw, 2.5rem); background: var(--sheet);
  border: 1px solid var(--line); border-top: 4px solid var(--act); border-radius: .375rem; overflow-wrap: anywhere; }
h1 { margin: 0 0 1rem; font: 600 1.75rem/1.2 Georgia, "Liberation Serif", serif; text-wrap: balance; }
p { margin: 0; color: var(--soft); text-wrap: pretty; }
form { margin: 1.75rem 0 0; }
button { min-height: 2.75rem; padding: .625rem 1.5rem; border: 2px solid var(--act); border-radius: .375rem;
  font: inherit; font-weight: 600; background: var(--act); color: var(--act-ink); cursor: pointer; }
button.quiet { background: none; color: var(--act); }
button:hover { filter: brightness(.92); }
:focus-visible { outline: 3px solid #f0a848; outline-offset: 2px; }
@media (max-width: 26rem) { button { width: 100%; } }
"""
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
<p>{text}</p>
{form}</main>
</body>
</html>
"""
_FORM = """<form method="post" action="?{query}"><button class="{kind}">{text}</button></form>
"""
_POLICY = (
    f"default-src 'none'; style-src 'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = (
    (b"content-type", b"text/html; charset=utf-8"),
    (b"x-robots-tag", b"noindex, nofollow, noarchive"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", _POLICY.encode()),
)


@dataclass(frozen=True, slots=True)
class Button:
    """What a page lets a person do: a POST to its own address, with the `query` alone; `quiet` is no suggestion."""

    text: str
    query: str
    quiet: bool = False


def page(
    status: int, title: str, text: str, *more: tuple[bytes, bytes], topic: str = "", button: Button | None = None
) -> Response:
    """Return a page, with `more` headers; `{topic}` in its title and text stands for the topic, whatever it holds."""
    shown = f"<bdi>{escape(topic)}</bdi>"
    form = (
        ""
        if button is None
        else _FORM.format(
            query=escape(button.query), kind="quiet" if button.quiet else "loud", text=escape(button.text)
        )
    )
    body = _PAGE.format(
        name=escape(title.replace("{topic}", topic)),
        style=_STYLE,
        title=title.replace("{topic}", shown),
        text=text.replace("{topic}", shown),
        form=form,
    ).encode()
    return Response(status, (*_HEADERS, (b"content-length", b"%d" % len(body)), *more), body)
