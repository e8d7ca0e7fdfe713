"""Ways out for mail: smtp · folder · resend."""

from nightcrew.clock import Clock
from nightcrew.errors import ConfigurationError
from nightcrew.mailer import Mailer
from nightcrew.mailers.address import address
from nightcrew.mailers.folder import Folder
from nightcrew.mailers.resend import Resend
from nightcrew.mailers.smtp import Smtp


def mailer(url: str, clock: Clock, *, secret: str | None = None) -> Mailer:
    """Return the mailer at a URL; nobody is asked for it yet.

    `secret` is the password of the user that a URL of SMTP names, or the API key of Resend. Raises ConfigurationError
    for a URL that cannot be one, and where a secret is missing or is for nobody.
    """
    place = address(url)
    if place.kind == "file":
        if secret:
            raise ConfigurationError(f"mailer {place} is a folder, where nobody logs in: leave its secret out")
        return Folder(place.path, clock)
    if place.kind == "resend":
        if not secret or not secret.isascii() or not secret.isprintable():
            raise ConfigurationError(f"mailer {place} has no API key, or one that can be none: give it as secret")
        return Resend(place, clock, secret=secret)
    if place.user and not secret:
        raise ConfigurationError(f"mailer {place} has a user and no password: give it as secret")
    if secret and not place.user:
        raise ConfigurationError(f"mailer {place} has a password and no user: write '{place.kind}://user@{place.host}'")
    return Smtp(place, clock, secret=secret)
