"""A small client of the API, for programs. Nothing that runs on Lambda may import it.

from openreserve.client import Client

with Client("http://localhost:8080") as client:
    with client.hold("hotel-room-101") as hold:
        take_the_money()
        hold.commit()
"""

from openreserve.client.answers import Event, EventPage, Health, NotAnswered, Row
from openreserve.client.calls import Client, Hold
from openreserve.client.webhooks import NotGenuine, verify_webhook

__all__ = [
    "Client",
    "Event",
    "EventPage",
    "Health",
    "Hold",
    "NotAnswered",
    "NotGenuine",
    "Row",
    "verify_webhook",
]
