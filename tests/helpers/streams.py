"""A byte stream in memory: records what is written, and lets a test play the other side."""

from vastproxy.services.tunnels.base import StreamProtocol


class MemoryStream:
    """The transport of a protocol under test. `feed`, `feed_eof` and `lose` are what the peer does."""

    def __init__(self, protocol: StreamProtocol) -> None:
        self.protocol = protocol
        self.written = b""
        self.eof_written = False
        self.closed = False
        self.aborted = False
        self.reading = True
        protocol.connection_made(self)

    def write(self, data: bytes) -> None:
        assert not self.is_closing(), "written to a closed stream"
        self.written += data

    def write_eof(self) -> None:
        self.eof_written = True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.closed or self.aborted

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def feed(self, data: bytes) -> None:
        self.protocol.data_received(data)

    def feed_eof(self) -> None:
        self.protocol.eof_received()

    def lose(self, error: Exception | None = None) -> None:
        self.aborted = True
        self.protocol.connection_lost(error)
