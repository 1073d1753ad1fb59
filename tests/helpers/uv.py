"""Tests on both event loops: asyncio's, and uvloop, on which `vastproxy serve` runs.

    pytestmark = BOTH_LOOPS

Their transports differ in when they write, in what they do after a half-close and in what an abort does. Where uvloop
is not built, only asyncio's loop is there, as in the command.
"""

import asyncio

import pytest

from tests.helpers.loop import LoopFactory


def _uvloop() -> dict[str, LoopFactory]:
    try:
        import uvloop
    except ImportError:
        return {}
    uvloop.new_event_loop().close()  # libuv opens a pipe for signals once, with the first loop, and keeps it
    return {"uvloop": uvloop.new_event_loop}


#: By name. The same objects at each look, as pytest-asyncio compares them.
LOOPS: dict[str, LoopFactory] = {"asyncio": asyncio.new_event_loop, **_uvloop()}

#: For a module's `pytestmark` or above one test.
BOTH_LOOPS = pytest.mark.asyncio(loop_factories=tuple(LOOPS))

#: For slow tests of what the loop has hardly a part in: the loop of `vastproxy serve` alone.
SERVED_LOOP = pytest.mark.asyncio(loop_factories=tuple(LOOPS)[-1:])


def wanted_loops(item: pytest.Item) -> dict[str, LoopFactory] | None:
    """What a test that names its loops may choose from; None for one that does not."""
    marks = item.iter_markers("asyncio")
    return LOOPS if any("loop_factories" in mark.kwargs for mark in marks) else None
