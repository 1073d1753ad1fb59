"""What listens inside one simulated instance: its engines, Caddy in front of the first, and the instance portal."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vastproxy.simulator.caddy import Doors, create_caddy
from vastproxy.simulator.catalog import IMAGES
from vastproxy.simulator.contract import Contract
from vastproxy.simulator.engine import Engine
from vastproxy.simulator.flavours import create_engine_app
from vastproxy.simulator.portal import PORTAL_PORT, InstancePortal, Service, image_services
from vastproxy.simulator.serving import AppServer


@dataclass(frozen=True, slots=True)
class Seat:
    """An engine, the port inside on which it listens, and the socket that stands for that port."""

    engine: Engine
    port: int
    socket: Path
    server: AppServer


class Programs:
    """The programs of one instance. Each port is a unix socket, to which the SSH server leads."""

    def __init__(
        self,
        engines: Sequence[Engine],
        contract: Contract,
        directory: Path,
        *,
        doors: Doors,
        cut: Callable[[Path], None],
    ) -> None:
        """`directory`: where the sockets are. `cut` ends the streams that lead to a socket."""
        base = directory / str(contract.id)
        self._log, self._cut = contract.log, cut
        self.doors = doors
        self.has_portal = True
        """False: it is not started, as in images that are not vast.ai's."""
        self.seats = tuple(_seats(engines, base))
        services = self._services()
        self._portal = InstancePortal(base.with_suffix(".portal"), self._services) if services else None
        self._caddy_socket = base.with_suffix(".caddy")
        self._caddy_port: int | None = None
        self._caddy: AppServer | None = None
        if self.seats and doors is not Doors.OWN:
            first = self.seats[0]
            self._caddy_port = next(
                (one.external_port for one in services if one.internal_port == first.port), 8000
            )
            app = create_engine_app(first.engine)
            caddy = create_caddy(app, token=contract.token, is_up=lambda: first.server.running)
            self._caddy = AppServer(caddy, path=self._caddy_socket)

    @property
    def caddy_port(self) -> int | None:
        """The port inside on which Caddy listens; None without Caddy."""
        return self._caddy_port

    async def start(self) -> None:
        """The container is up: everything begins to listen."""
        for index in range(len(self.seats)):
            await self.start_engine(index)
        if self._caddy is not None:
            await self._caddy.start()
        if self._portal is not None and self.has_portal:
            await self._portal.start()

    async def stop(self) -> None:
        """Nothing listens any more. May be called twice."""
        others = (one for one in (self._caddy, self._portal) if one is not None)
        engines = map(self.stop_engine, range(len(self.seats)))
        await asyncio.gather(*engines, *(one.stop() for one in others))

    async def start_engine(self, index: int) -> None:
        seat = self.seats[index]
        if not seat.server.running:
            seat.engine.revive()
            await seat.server.start()
            self._log.append(f"{seat.engine.flavour} serves {seat.engine.model} on port {seat.port}")

    async def stop_engine(self, index: int) -> None:
        seat = self.seats[index]
        if seat.server.running:
            seat.engine.crash()
            self._cut(seat.socket)
            if index == 0:
                self._cut(self._caddy_socket)  # Caddy breaks off what it was passing on
            await seat.server.stop()

    def route(self, port: int) -> Path | None:
        """The socket behind a port inside; None when nobody listens there."""
        if port == PORTAL_PORT:
            return self._portal.socket if self._portal is not None and self._portal.running else None
        if port == self._caddy_port:
            return self._caddy_socket if self._caddy is not None and self._caddy.running else None
        for place, seat in enumerate(self.seats):
            hidden = place == 0 and self.doors is Doors.CADDY
            if port == seat.port and seat.server.running and not hidden:
                return seat.socket
        return None

    def _services(self) -> tuple[Service, ...]:
        """What the portal shows: the image's programs, and the engines beside the first."""
        if not self.seats:
            return ()
        first, *others = self.seats
        shown = image_services(first.engine.flavour, first.port, running=first.server.running)
        if not shown:
            return ()
        return (*shown, *(self._beside(place, seat) for place, seat in enumerate(others, 2)))

    @staticmethod
    def _beside(place: int, seat: Seat) -> Service:
        flavour = seat.engine.flavour
        state = "RUNNING" if seat.server.running else "FATAL"
        name = f"{IMAGES[flavour].template} API {place}"
        return Service(
            name, seat.port, seat.port, speaks_openai=True, process=f"{flavour}-{place}", state=state
        )


def _seats(engines: Sequence[Engine], base: Path) -> Iterator[Seat]:
    taken: set[int] = set()
    for place, engine in enumerate(engines):
        port = IMAGES[engine.flavour].port
        while port in taken:
            port += 1
        taken.add(port)
        socket = base.with_suffix(".sock" if place == 0 else f".{place + 1}.sock")
        yield Seat(engine, port, socket, AppServer(create_engine_app(engine), path=socket))
