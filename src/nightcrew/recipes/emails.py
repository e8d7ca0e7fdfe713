"""The sequence of a new account: a welcome, and two mails that follow it."""

from datetime import timedelta

from nightcrew.sequence import DAY, Sequence, Step

NAME = "welcome"


def welcome(after: timedelta = timedelta(0)) -> Sequence:
    """Return a sequence of a welcome (at once, or so long after sign-up), and of one mail on day 3 and one on day 7.

    Its mails come with nightcrew, in words for the segments general, developer, security_focused and enterprise.
    """
    return Sequence(NAME, (Step("welcome", after, arms=("a", "b")), Step("day3", 3 * DAY), Step("day7", 7 * DAY)))
