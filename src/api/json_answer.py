"""JSON for our own pages, of texts that others have made up."""

import json
from typing import Any

from starlette.responses import JSONResponse


def encoded(value: Any) -> bytes:
    """As UTF-8. Half of a surrogate pair, which JSON can write and UTF-8 cannot, becomes `?`: one such name, from a
    client or from a rented machine, must not blind a page. Raises ValueError for numbers that JSON does not have."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")


class JsonAnswer(JSONResponse):
    """An answer of `encoded` JSON."""

    def render(self, content: Any) -> bytes:
        return encoded(content)
