"""What a reply of SMTP that is no yes means for the letter it is about."""

from enum import Enum

from nightcrew.mailer import Fate
from nightcrew.mailers.smtp_dialogue import Reply

# What RFC 3463 calls an address where nobody is: no such mailbox, no such domain, none that could be, moved away, a
# domain without mail (RFC 7505), and closed: which may be for a while, but is what Gmail says of accounts that are no
# more. A refusal without such a code may as well be one of policy.
_NOBODY = {"5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10", "5.2.1"}
_TOO_LARGE = {"5.2.3", "5.3.4"}
_NOT_ASCII = "5.6.7"  # RFC 6531 3.5
_NO_LOGIN = 530  # RFC 4954 4, and RFC 3207 4 where nothing is encrypted
_TOO_MUCH = 552  # RFC 1870 6.1


class Step(Enum):
    """The steps of handing over a letter, each with the first digit of a yes."""

    MAIL = "2", "MAIL FROM"
    RCPT = "2", "RCPT TO"
    DATA = "3", "DATA"
    END = "2", "the letter"

    def agrees(self, reply: Reply) -> bool:
        """Tell whether a reply is a yes to this step."""
        return str(reply.code)[0] == self.value[0]


def fate(step: Step, reply: Reply) -> Fate | None:
    """Return what becomes of a letter by a reply of 400 and above, or None where it is about all that we send."""
    if reply.code == _NO_LOGIN:
        return None
    if reply.code < 500:
        return Fate.DEFERRED
    if step is Step.MAIL:
        of_letter = reply.code == _TOO_MUCH or reply.status in {*_TOO_LARGE, _NOT_ASCII}
        return Fate.REFUSED if of_letter else None
    if step is Step.RCPT and reply.status in _NOBODY:
        return Fate.BOUNCED
    if step is Step.RCPT and "relay" in str(reply).casefold():
        # It says that we may not send to others by it, which has no code of its own and somebody can put right. It is
        # put off, for else the first run with a login that is wrong would refuse every letter for good.
        return Fate.DEFERRED
    return Fate.REFUSED
