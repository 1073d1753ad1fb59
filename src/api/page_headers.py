"""What our own pages tell browsers beside what they show: not to guess, frame, keep or pass on any of it.

A page that says something of these itself is left as it is: one with scripts needs a policy of its own.
"""

from starlette.types import Message, Send

from vastproxy.services.http1.grammar import Header

#: OWASP's HTTP headers cheat sheet, for answers that are data.
PAGE_HEADERS: tuple[Header, ...] = (
    (b"cache-control", b"no-store"),
    (
        b"content-security-policy",
        b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    ),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)


def hardened(send: Send) -> Send:
    """`send`, with those headers added to the answer that has none of the name."""

    async def tell(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            said = {name.lower() for name, _ in headers}
            added = [pair for pair in PAGE_HEADERS if pair[0] not in said]
            message = {**message, "headers": [*headers, *added]}
        await send(message)

    return tell
