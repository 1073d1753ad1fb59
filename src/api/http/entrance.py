"""The seam between the server's connections and the application."""

from typing import Protocol

from vastproxy.api.client import Client, Handler
from vastproxy.api.errors import ApiError
from vastproxy.api.http.message import Request


class Entrance(Protocol):
    """Where requests go."""

    def handle(self, request: Request, client: Client) -> Handler:
        """Who answers this request. Nothing is done before its `begin`."""

    def refused(self, error: ApiError, client: Client) -> None:
        """A connection was refused because of what it sent, before there was a request."""
