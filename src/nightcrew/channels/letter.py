"""Letter: an alarm as mail, in plain text, by the mailer of a crew that has one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

from nightcrew import mailer
from nightcrew.alarm import Notice
from nightcrew.channels.channel import Means
from nightcrew.errors import ChannelError, ConfigurationError, MailerError
from nightcrew.mail import mailbox
from nightcrew.mailer import Fate

_GONE = {Fate.SENT, Fate.MAYBE_SENT, Fate.UNANSWERED}  # once too often would be worse than perhaps not at all


@dataclass(frozen=True, slots=True)
class Letter:
    """Mail to these addresses, which is neither counted nor kept from leaving as that to people is.

    Raises ConfigurationError for an address that is none.
    """

    to: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "to", tuple(self.to))
        if not self.to:
            raise ConfigurationError('to names nobody; write to = ["ops@acme.example"]')
        for address in self.to:
            mailbox("to", address)

    @property
    def name(self) -> str:
        """Whom it goes to."""
        return f"mail to {', '.join(mailbox('to', each).addr_spec for each in self.to)}"

    @property
    def secrets(self) -> Sequence[str]:
        """None of its own; the mailer knows its password."""
        return ()

    def each(self) -> Iterator["Letter"]:
        """Return one for each address: what has reached one of them is not sent to them again."""
        return (replace(self, to=(address,)) for address in self.to)

    def tell(self, notice: Notice, means: Means) -> None:
        """Hand it over."""
        post, sender = means.post()
        try:
            with post.connect() as connection:
                for address in self.to:
                    key = f"alarm-{notice.id}-{sha256(address.encode()).hexdigest()[:8]}"
                    letter = mailer.Letter(
                        key, notice.at, sender, mailbox("to", address), notice.subject, notice.text, None,
                        headers={"Auto-Submitted": "auto-generated"},
                    )  # fmt: skip
                    done = connection.deliver(letter)
                    if done.fate not in _GONE:
                        raise ChannelError(f"it is {done.fate}: {done.reason}")
        except MailerError as error:
            raise ChannelError(str(error)) from error
