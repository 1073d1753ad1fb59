"""What the keys of the dashboard do at the proxy: asked about first where it cannot be taken back."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from textual.screen import Screen

from vastproxy.cli.top import facts
from vastproxy.cli.top.dialogs import Choice, Typed
from vastproxy.cli.top.look import Look
from vastproxy.cli.top.orders import Orders
from vastproxy.cli.top.values import Row, identity, number, part, text
from vastproxy.cli.top.words import whole
from vastproxy.errors import VastproxyError
from vastproxy.services.threads import in_thread


class Desk(Protocol):
    """Who asks the person, and tells what came of it."""

    look: Look

    async def asked(self, dialog: Screen[str | None]) -> str | None: ...
    def tell(self, said: str, *, is_bad: bool = False) -> None: ...


class Commands:
    """Each one asks, orders, and tells what came of it. None of them raises."""

    def __init__(self, orders: Orders, desk: Desk) -> None:
        self._orders = orders
        self._desk = desk

    async def abort(self, fleet: Row, row: Row | None) -> None:
        """All requests, or those of this backend."""
        totals, look = part(fleet, "totals"), self._desk.look
        running, waiting = number(totals, "in_flight"), number(totals, "waiting")
        said = [f"End all requests? {whole(running, look)} run, {whole(waiting, look)} wait."]
        answers = {"y": "all"}
        id = identity(row) if row is not None else None
        if row is not None and id is not None:
            answers["o"] = f"only on #{id} ({whole(number(row, 'in_flight'), look)})"
        match await self._choice(said, answers):
            case "y":
                await self._do(lambda: self._orders.abort(None))
            case "o":
                await self._do(lambda: self._orders.abort(id))

    async def drain(self, row: Row) -> None:
        """No new requests for it; or, if that is so, take it back."""
        if (id := identity(row)) is not None:
            undo = facts.is_draining(row)
            await self._do(lambda: self._orders.drain(id, undo=undo))

    async def trust(self, row: Row) -> None:
        """Accept its changed host key."""
        if (id := identity(row)) is None:
            return
        said = [
            f"Forget the host key of #{id} and accept the next one it shows?",
            "Do this after a reinstallation. A changed key may also mean that somebody sits in between.",
        ]
        if error := text(row, "error"):
            said.append(error)
        if await self._choice(said, {"y": "trust it"}):
            await self._do(lambda: self._orders.trust(id))

    async def destroy(self, row: Row, all_ids: Sequence[int]) -> None:
        """This one, or all of them, by what is typed."""
        if (id := identity(row)) is None:
            return
        everything = f"all {len(all_ids)}"
        name = f"#{id}  {facts.gpus_name(row, self._desk.look)}"
        said = [
            f"Destroy {name} on the account? Its disk is lost, its requests break off.",
            f"Type {id} to destroy it",
        ]
        accepted = [str(id)]
        if len(all_ids) > 1:
            said[-1] += f", or '{everything}' to destroy every instance here."
            accepted.append(everything)
        else:
            said[-1] += "."
        typed = await self._desk.asked(Typed(said, accepted, letters=self._desk.look.dash.isascii()))
        if typed is not None:
            wanted = all_ids if typed == everything else [id]
            self._desk.tell(f"destroying {len(wanted)}{self._desk.look.more}")
            await self._do(lambda: self._orders.destroy(wanted))

    async def cancel(self, request: Row) -> None:
        """This request."""
        id = text(request, "id")
        if id and await self._choice([f"End request {id}?"], {"y": "end it"}):
            await self._do(lambda: self._orders.cancel(id))

    async def found(self, ask: Callable[[], Row]) -> Row | None:
        """What the proxy answers; None, and the reason told, if it does not."""
        try:
            return await in_thread(ask, name="top-question")
        except VastproxyError as error:
            self._desk.tell(str(error), is_bad=True)
            return None

    async def _choice(self, said: Sequence[str], answers: Mapping[str, str]) -> str | None:
        return await self._desk.asked(Choice(said, answers, letters=self._desk.look.dash.isascii()))

    async def _do(self, order: Callable[[], str]) -> None:
        try:
            self._desk.tell(await in_thread(order, name="top-order"))
        except VastproxyError as error:
            self._desk.tell(" ".join(str(error).split()), is_bad=True)
