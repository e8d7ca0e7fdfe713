"""Ways by which people are told of alarms: webhook · slack · letter."""

from nightcrew.channels.channel import Channel, Means
from nightcrew.channels.letter import Letter
from nightcrew.channels.slack import Slack
from nightcrew.channels.webhook import Webhook

__all__ = ["Channel", "Letter", "Means", "Slack", "Webhook"]
