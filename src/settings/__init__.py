"""Settings: what the user told us, checked, frozen, with secrets that do not print."""

from vastproxy.settings.model import Settings

__all__ = ["Settings"]
