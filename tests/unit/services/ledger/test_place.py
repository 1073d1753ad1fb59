"""Where the ledger is kept."""

from pathlib import Path
from typing import Any

import pytest

from vastproxy.services.ledger.place import ledger_path
from vastproxy.settings import Settings


@pytest.mark.parametrize(
    ("ledger", "tunnels", "environ", "path"),
    [
        ({}, {}, {"HOME": "/h", "XDG_STATE_HOME": "/s"}, "/s/vastproxy/ledger.db"),
        ({}, {}, {"HOME": "/h"}, "/h/.local/state/vastproxy/ledger.db"),
        ({}, {"state_dir": "~/t"}, {"HOME": "/h"}, "/h/t/ledger.db"),
        ({"path": "~/money.db"}, {"state_dir": "/t"}, {"HOME": "/h"}, "/h/money.db"),
        ({}, {}, {}, None),
        ({"enabled": False, "path": "/x"}, {}, {"HOME": "/h"}, None),
    ],
)
def test_the_place(
    ledger: dict[str, Any], tunnels: dict[str, Any], environ: dict[str, str], path: str | None
) -> None:
    settings = Settings.model_validate({"ledger": ledger, "tunnels": tunnels})
    assert ledger_path(settings, environ) == (None if path is None else Path(path))
