"""What whoever has a key is told where it is not good enough. Whoever has none: `errors.BAD_KEY`."""

from collections.abc import Iterable

from vastproxy.api.errors import ApiError
from vastproxy.services.access.limits import Refusal
from vastproxy.services.access.records import Right

#: Of a name that a client made up, an error repeats so much.
_SHOWN_MODEL_CHARS = 200


def no_right(right: Right) -> ApiError:
    """The key is good, but not for this."""
    return ApiError(
        403,
        f"This API key has no {right} rights. The operator can make one that has, with 'vastproxy keys create'.",
        "invalid_request_error",
        "insufficient_permissions",
    )


def model_not_allowed(model: str | None) -> ApiError:
    """The key is good, but not for this model. None: the request names none."""
    if model is None:
        text = "This API key may use certain models only, so the request must name one of them."
    else:
        name = model if len(model) <= _SHOWN_MODEL_CHARS else f"{model[:_SHOWN_MODEL_CHARS]}…"
        text = f"This API key may not use the model '{name}'."
    return ApiError(403, text, "invalid_request_error", "model_not_allowed", "model")


def models_unclear() -> ApiError:
    """The key is good for certain models only, and the body could mean another one."""
    return ApiError(
        403,
        "This API key may use certain models only, so the request must name one of them once, in plain JSON or form.",
        "invalid_request_error",
        "model_not_allowed",
        "model",
    )


def too_large_to_look(limit_bytes: int) -> ApiError:
    """The key is good for certain models only, and the body is longer than it is looked through."""
    return ApiError(
        413,
        f"This API key may use certain models only, so a request may have at most {limit_bytes >> 20} MiB.",
        "invalid_request_error",
        "request_too_large",
    )


def over_limit(refusal: Refusal, headers: Iterable[tuple[bytes, bytes]] = ()) -> ApiError:
    """The key is good, but has used what it may. `headers`: `x-ratelimit-*`."""
    return ApiError(
        refusal.status,
        refusal.message,
        "rate_limit_error",
        refusal.code,
        retry_after_s=refusal.retry_after_s,
        more_headers=tuple(headers),
    )
