"""The root of every error that vastproxy raises on purpose.

    VastproxyError
      SettingsError          vastproxy.settings     a value the user gave cannot be used
      VastError              vastproxy.vastai       we called vast.ai
      ServiceError           vastproxy.services     we called a backend, or have none to call

Bugs (AssertionError, IllegalTransition, …) are not in this tree, so that
`except VastproxyError` never hides one.
"""

from typing import ClassVar


class VastproxyError(Exception):
    """Base class. `str(error)` is one line for a person: what happened, to whom, what to do next."""

    #: May the same call succeed later without anybody changing anything?
    transient: ClassVar[bool] = False
    #: HTTP status that a server answers with when this error ends a request.
    status: ClassVar[int] = 500
    #: Exit code of the command line when this error ends a command.
    exit_code: ClassVar[int] = 1
