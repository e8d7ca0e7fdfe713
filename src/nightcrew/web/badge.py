"""Badge: one word about a job, or all of them, as a small picture for a page elsewhere."""

from html import escape

from nightcrew.vitals import Health

_COLOURS = {Health.UP: "#2c7a4b", Health.LATE: "#8a5a00", Health.DOWN: "#b3261e", Health.PAUSED: "#5b6470"}
_SIGN = 6.6  # pixels that a sign of 11 px Verdana is wide, about: the text is fitted to what this comes to
_SVG = """<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="20" role="img" aria-label="{name}: {word}">\
<title>{name}: {word}</title>\
<clipPath id="r"><rect width="{width}" height="20" rx="3"/></clipPath>\
<g clip-path="url(#r)"><rect width="{left}" height="20" fill="#3b424c"/>\
<rect x="{left}" width="{right}" height="20" fill="{colour}"/></g>\
<g fill="#fff" font-family="Verdana,Geneva,DejaVu Sans,sans-serif" font-size="11" text-anchor="middle">\
<text x="{at_left}" y="14" textLength="{name_length}">{name}</text>\
<text x="{at_right}" y="14" textLength="{word_length}">{word}</text></g></svg>"""


def badge(name: str, health: Health) -> bytes:
    """Draw a badge: on the left whose it is, on the right how it stands."""
    name_length, word_length = (round(_SIGN * len(text)) for text in (name, health))
    left, right = name_length + 12, word_length + 12
    return _SVG.format(
        name=escape(name), word=health.value, colour=_COLOURS[health], width=left + right, left=left, right=right,
        at_left=left / 2, at_right=left + right / 2, name_length=name_length, word_length=word_length,
    ).encode()  # fmt: skip
