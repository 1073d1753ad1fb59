"""What is wrong with a value that the user gave."""

from typing import ClassVar

from vastproxy.errors import VastproxyError


class SettingsError(VastproxyError):
    """A setting cannot be used. The message is one line: which key, where it came from, what was expected."""

    exit_code: ClassVar[int] = 2

    def __init__(self, message: str) -> None:
        # Names and paths come from anywhere and may hold line breaks or what a terminal obeys.
        super().__init__("".join(char if char.isprintable() else "?" for char in " ".join(message.split())))
