"""A request whose key has limits: what it may ask for, and its place in the books of the key.

A `Guest` is made only where `Caller.is_limited`; whoever may do as he likes costs nothing.
"""

from vastproxy.api.errors import ApiError
from vastproxy.api.http.request import Request
from vastproxy.api.key_errors import model_not_allowed, models_unclear, over_limit, too_large_to_look
from vastproxy.api.upload import Upload
from vastproxy.services.access.callers import Caller
from vastproxy.services.access.limits import UNMETERED, Visit
from vastproxy.services.access.onemodel import names_one_model
from vastproxy.services.http1.headers import lines_of

#: Of who may use certain models only the whole body is looked at, as the last word in it counts. OpenAI takes 25 MB.
MOST_LOOKED_AT_BYTES = 32 << 20


class Guest:
    """See the module's docstring. `now` in the arguments: seconds that never go back."""

    __slots__ = ("_visit", "caller")

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self._visit = UNMETERED

    def enter(self, now: float) -> ApiError | None:
        """Count the request as begun; or why it may not begin, and then it is not counted. Call once."""
        found = self.caller.enter(now)
        if isinstance(found, Visit):
            self._visit = found
            return None
        meter = self.caller.meter
        return over_limit(found, meter.headers(now) if meter is not None else ())

    def refusal(self, model: str | None, request: Request, upload: Upload) -> ApiError | None:
        """Why it may not ask for this model, if it may not. None: it names none. `upload`: what has come of the body,
        which is all of it unless that is too much."""
        if not self.caller.may_use(model):
            return model_not_allowed(model)
        if self.caller.chooses_model:
            return None
        if not upload.complete:
            return too_large_to_look(MOST_LOOKED_AT_BYTES)
        if not names_one_model(upload.gathered(), request.known.get(b"content-type", ())):
            return models_unclear()
        return None

    @property
    def needs_model(self) -> bool:
        """Must the model be known before it is let in?"""
        return not self.caller.chooses_model

    @property
    def wants_tokens(self) -> bool:
        """Is it of use to count its tokens?"""
        return self._visit.wants_tokens

    def lines(self, now: float) -> bytes:
        """What its answer says of the limits, as header lines."""
        return lines_of(self._visit.headers(now))

    def leave(self, now: float, tokens: int = 0) -> None:
        """The request is over, and has used so many tokens, prompt and answer together. Once is enough."""
        self._visit.end(now, tokens)
