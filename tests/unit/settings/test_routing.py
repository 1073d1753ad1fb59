"""The settings of who serves a request."""

import pytest
from pydantic import ValidationError

from vastproxy.settings.routing import RoutingSettings


@pytest.mark.parametrize("name", ["X-Session-Id", "session_id"])
def test_names_of_headers_and_cookies_are_taken(name: str) -> None:
    settings = RoutingSettings(session_header=name, session_cookie=name)
    assert (settings.session_header, settings.session_cookie) == (name, name)


@pytest.mark.parametrize("name", ["", "X Session", "X-Session:", "a=b", "a;b", "a\r\nb", "a\n"])
@pytest.mark.parametrize("setting", ["session_header", "session_cookie"])
def test_what_cannot_be_such_a_name_is_refused(setting: str, name: str) -> None:
    with pytest.raises(ValidationError):
        RoutingSettings.model_validate({setting: name})
