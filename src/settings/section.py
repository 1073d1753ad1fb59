"""What every group of settings is, and what several of them share."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from vastproxy.settings.expected import Expected

Seconds = Annotated[float, Field(gt=0, le=86_400 * 7)]
Secret = Annotated[SecretStr, Field(min_length=1)]
# No user name or password: an address is shown in logs and errors.
HttpUrl = Annotated[
    str,
    Field(pattern=r"^https?://[^\s/@]+(/[^\s]*)?$"),
    Expected("an address that begins with http:// or https://, without a user name or password"),
]


class Section(BaseModel):
    """A frozen group of settings in which an unknown name is an error."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
    )
