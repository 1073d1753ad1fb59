"""The settings of who may tell the proxy that something has happened."""

from typing import Annotated

from pydantic import Field

from vastproxy.settings.section import Secret, Section


class WebhookSettings(Section):
    """Events that come to /webhooks/vastai."""

    secret: Secret | None = None
    """The secret with which vast.ai signs its webhooks, as `vastproxy webhooks create` prints it. A reference
    (`env:NAME`, `file:PATH`). None: signed events are refused."""
    token: Secret | None = None
    """Bearer that your instances send with events of their own, such as from an onstart script. A reference; another
    one than the secret, with which a rented machine could sign what it likes. None: their events are refused."""
    tolerance_s: Annotated[float, Field(ge=1, le=3600)] = 300.0
    """How far the time in a signed event may be from our clock; vast.ai advises 300 s."""
    remembered_events: Annotated[int, Field(ge=1, le=1_000_000)] = 4096
    """Most event ids remembered, so that an event that comes twice counts once."""
