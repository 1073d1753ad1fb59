"""What a case of the corpus is: bytes, and what must come of them. No I/O."""

from dataclasses import dataclass

Fields = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as the engine must get it. `headers`: all but those that every proxy writes (see `OF_THE_PROXY`),
    names in lower case."""

    method: str
    target: str
    body: bytes = b""
    headers: Fields = ()


#: Headers that a proxy writes, keeps or drops by its own rules, so that no case has to repeat them.
OF_THE_PROXY = frozenset(
    {
        "authorization",
        "connection",
        "content-length",
        "expect",
        "forwarded",
        "host",
        "te",
        "transfer-encoding",
        "via",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-real-ip",
        "x-request-id",
    }
)


@dataclass(frozen=True, slots=True)
class RequestCase:
    """What a client sends on one connection, and what becomes of it.

    `kept`: after the answers another request on the same connection is answered. Otherwise the proxy has closed it.
    `fin`: the client sends nothing after these bytes and closes its side.
    """

    name: str
    raw: bytes
    answers: tuple[int, ...]
    seen: tuple[Seen, ...]
    kept: bool
    source: str
    """The rule or the write-up that it comes from."""
    nginx: str = ""
    """Why nginx does something else, if it does."""
    methods: tuple[str, ...] = ()
    """Of the requests, as the client knows them; GET where it does not matter."""
    fin: bool = False

    def __str__(self) -> str:
        return self.name


def passed(
    name: str,
    raw: bytes,
    *seen: Seen,
    source: str,
    nginx: str = "",
    kept: bool = True,
) -> RequestCase:
    """Each request reaches the engine as `seen` says and is answered 200."""
    methods = tuple(message.method for message in seen)
    return RequestCase(name, raw, (200,) * len(seen), seen, kept, source, nginx, methods)


def refused(
    name: str,
    raw: bytes,
    status: int = 400,
    *,
    source: str,
    nginx: str = "",
    after: tuple[Seen, ...] = (),
) -> RequestCase:
    """The connection ends with this status. `after`: valid requests before the bad one, answered 200."""
    methods = (*(message.method for message in after), "GET")
    return RequestCase(
        name, raw, (200,) * len(after) + (status,), after, False, source, nginx, methods=methods
    )


@dataclass(frozen=True, slots=True)
class ResponseCase:
    """What an engine sends for one request, and what the client gets.

    `close`: the engine closes the connection after these bytes. `reused`: the proxy keeps the connection to the
    engine for further requests. `kept`: the client's connection goes on. `complete`: the client can tell that it
    has everything.
    """

    name: str
    raw: bytes
    status: int
    body: bytes
    source: str
    headers: Fields = ()
    """Headers that the client gets, among others."""
    absent: tuple[str, ...] = ()
    """Headers that it does not get."""
    method: str = "GET"
    request: Fields = (("Host", "x"),)
    version: str = "1.1"
    """Of the client's request."""
    interim: tuple[int, ...] = ()
    complete: bool = True
    kept: bool = True
    reused: bool = True
    close: bool = False
    nginx: str = ""
    partly: bool = False
    """Anything from an error to a broken answer with all of `body` will do."""

    def __str__(self) -> str:
        return self.name


def answered(
    name: str,
    raw: bytes,
    body: bytes = b"",
    *,
    source: str,
    status: int = 200,
    headers: Fields = (),
    absent: tuple[str, ...] = (),
    method: str = "GET",
    request: Fields = (("Host", "x"),),
    version: str = "1.1",
    interim: tuple[int, ...] = (),
    kept: bool = True,
    reused: bool = True,
    close: bool = False,
    nginx: str = "",
) -> ResponseCase:
    """The client gets the whole answer. `reused` means nothing when the engine closes."""
    return ResponseCase(
        name,
        raw,
        status,
        body,
        source,
        headers,
        absent,
        method,
        request,
        version,
        interim,
        True,
        kept,
        reused,
        close,
        nginx,
    )


def cut_short(
    name: str, raw: bytes, body: bytes, *, source: str, version: str = "1.1", nginx: str = ""
) -> ResponseCase:
    """The engine closes too early, after the head: the client gets what there is and sees that some is missing."""
    return ResponseCase(
        name, raw, 200, body, source, version=version, complete=False, kept=False, close=True, nginx=nginx
    )


def bad(
    name: str,
    raw: bytes,
    *,
    source: str,
    status: int = 502,
    close: bool = False,
    method: str = "GET",
    nginx: str = "",
) -> ResponseCase:
    """Nothing of it reaches the client, who gets an error; no request follows on that connection to the engine."""
    return ResponseCase(name, raw, status, b"", source, method=method, reused=False, close=close, nginx=nginx)


def bad_after(name: str, raw: bytes, body: bytes, *, source: str, nginx: str = "") -> ResponseCase:
    """As `bad`, but `body` came before it became visible. How much of that the client gets depends on the pieces in
    which it came: a broken answer with a part of it, or an error."""
    return ResponseCase(
        name, raw, 200, body, source, complete=False, kept=False, reused=False, nginx=nginx, partly=True
    )
