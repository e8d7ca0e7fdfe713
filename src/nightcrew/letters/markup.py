"""HTML as mail programs want it: each element's style beside it, and no address that would run or fetch something."""

import html
import re

from css_inline import CSSInliner, InlineError

from nightcrew.errors import TemplateError

# What depends on the reader's screen, such as @media, cannot stand beside an element, and stays in its <style>.
_INLINER = CSSInliner(load_remote_stylesheets=False, keep_at_rules=True)
_SCHEMES = {"http", "https", "mailto", "tel", "sms", "cid"}
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):", re.IGNORECASE)
_ADDRESS = re.compile(r'\s(?:href|src|action|formaction|background|poster|data|xlink:href)="([^"]*)"')
# Most pages have none, which is seen in a tenth of the time that a look at each address takes.
_SUSPECT = re.compile(r'="(?<=[acdfnr]=")(?!https?:|mailto:|tel:)[^":]*:')
# The inliner writes all HTML anew: each attribute with its quotes, and each “<” that begins no tag as “&lt;”.
_TAG = re.compile(r'<[a-zA-Z][^\s/>]*(?:\s[^\s="<>]+="[^"]*")+')
_IGNORED = dict.fromkeys(range(0x21))  # by browsers, before an address and some within it


def inline(page: str) -> str:
    """Return a page with its styles inlined, and without addresses of schemes that no link in a mail needs.

    Nothing is fetched, and no file read: links to stylesheets are dropped. Raises TemplateError for what is no CSS.
    """
    try:
        inlined = _INLINER.inline(page)
    except InlineError as error:
        raise TemplateError(f"its styles cannot be inlined ({error}): mend its CSS") from None
    return _TAG.sub(_without_harm, inlined) if _SUSPECT.search(inlined) else inlined


def _without_harm(tag: re.Match[str]) -> str:
    return _ADDRESS.sub(lambda found: found[0] if _harmless(found[1]) else "", tag[0])


def _harmless(address: str) -> bool:
    scheme = _SCHEME.match(html.unescape(address).translate(_IGNORED))
    return scheme is None or scheme[1].lower() in _SCHEMES
