"""What can go wrong between us and a backend. The class says what the caller may do next.

ServiceError
  NoBackendAvailable     nobody can serve now                       503, with Retry-After
  OverLimit              this asker is over a limit of his own      429, with Retry-After
  ModelNotFound          nobody serves such a model                 404
  Cancelled              somebody has ordered that it ends          503, or a broken stream
  BackendError           one backend failed
    BackendConnectError  no byte of the request was sent            any request may go elsewhere
      NoStreamLeft       this process is full                       503: elsewhere is no better
    TokenNotAccepted     it wants another key than ours             502
    BackendTimeout       too slow: connect, headers or idle         504
    BackendProtocolError what it sent is not HTTP                   502
    ResponseInterrupted  it broke off                               502, or a broken stream
  TunnelError            one SSH connection failed
    TunnelRefused        key or host key not accepted               do not hammer; tell the operator
      KeyRefused         key not accepted                           the same, once the instance has had its time
      KeyUnavailable     our agent has no key for us now            somebody may give it back any moment
    TunnelLost           unreachable, closed or silent              back off and try again
    ChannelRefused       the tunnel is fine, the port is closed     the engine is not listening
    StreamsFull          this process carries all it may            503; says nothing about the backend
"""

from typing import ClassVar

from vastproxy.errors import VastproxyError


class ServiceError(VastproxyError):
    """Something below the API layer could not be done."""


class NoBackendAvailable(ServiceError):
    """No backend can take this request now."""

    transient = True
    status = 503

    def __init__(self, message: str, *, retry_after_s: int = 5) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class OverLimit(ServiceError):
    """Whoever asks has more under way than he may."""

    transient = True
    status = 429

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ModelNotFound(ServiceError):
    """Nobody serves a model of this name. The message names some that are served."""

    status = 404

    def __init__(self, message: str, *, discreet: str) -> None:
        """`discreet`: the same without any names, for those who may not use all models."""
        super().__init__(message)
        self.discreet = discreet


class Cancelled(ServiceError):
    """Whoever runs the proxy has ordered that this request ends."""

    status = 503
    code: ClassVar[str] = "cancelled"


class BackendError(ServiceError):
    """A backend did not answer as it should."""

    transient = True
    status = 502
    code: ClassVar[str] = "backend_error"
    way_lost = False
    """Was it the SSH connection that failed, and not what it leads to? Then the instance itself may be fine."""


class BackendConnectError(BackendError):
    """No byte of the request reached the backend, so any request may be sent elsewhere."""

    code = "backend_unreachable"


class NoStreamLeft(BackendConnectError):
    """This process can open no more streams, to whatever backend. No backend is to blame."""

    status = 503
    code = "no_backend_available"
    retry_after_s = 1


class TokenNotAccepted(BackendError):
    """The engine wants another key than the one that it is sent. The client's own key was fine."""

    transient = False
    code = "backend_unauthorized"


class BackendTimeout(BackendError):
    """The backend was too slow. `phase` is `connect`, `headers` or `idle`."""

    status = 504
    code = "backend_timeout"

    def __init__(self, message: str, *, phase: str) -> None:
        super().__init__(message)
        self.phase = phase


class BackendProtocolError(BackendError):
    """The backend sent bytes that are not HTTP/1.1."""

    code = "backend_protocol_error"


class ResponseInterrupted(BackendError):
    """The connection ended before the response did. `received` says whether any response byte had come."""

    code = "backend_interrupted"

    def __init__(self, message: str, *, received: bool) -> None:
        super().__init__(message)
        self.received = received


class TunnelError(ServiceError):
    """An SSH connection could not be made or used."""

    status = 502


class TunnelRefused(TunnelError):
    """The other side said no (key, host key). Trying again soon will not help."""


class KeyUnavailable(TunnelRefused):
    """We have no key to show at this moment: whoever holds it does not answer, or not with it."""


class KeyRefused(TunnelRefused):
    """None of our keys is accepted. A new instance may take minutes to learn them."""


class TunnelLost(TunnelError):
    """Nobody answered, or the connection ended. Trying again later may help."""

    transient = True


class ChannelRefused(TunnelError):
    """The SSH connection works, but the port inside the instance does not accept connections."""

    transient = True


class StreamsFull(TunnelError):
    """The SSH engine carries as many streams as it may in one process, so nothing was sent.

    Not a sign of anything amiss with the instance or its engine: it passes when another stream ends.
    """

    transient = True
    status = 503
