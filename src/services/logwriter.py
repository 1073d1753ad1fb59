"""Lines to a descriptor that may be slow, full or dead, without anybody waiting for it.

`put` only appends to a list; a thread of its own writes what has gathered, at most every `interval_s`, or as soon as
`batch_bytes` are there or a line is urgent. While nothing comes, nobody wakes up. A descriptor that takes nothing
costs memory up to `limit_bytes` and then lines, never time: a line in the place of the lost ones says how many.

No error is final: a disk may be emptied and a named pipe may find a new reader, so a failed write is tried again.
"""

import contextlib
import errno
import functools
import os
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple, Self

#: At 10,000 requests a second these are some 60 wake-ups and writes a second; also what a Linux pipe holds.
BATCH_BYTES = 64 * 1024
#: How late a line may be. Nobody reads faster, and an idle process is not woken for it.
INTERVAL_S = 0.1
#: Half a minute of 1,000 requests a second, which is how long a log shipper takes to restart.
LIMIT_BYTES = 8 * 1024 * 1024

#: How long the end of a process may wait for a slow reader; service managers kill after ten seconds or more.
CLOSE_LIMIT_S = 5.0
#: What a line takes beside its bytes: the object's head and its place in a list.
_OVERHEAD = sys.getsizeof(b"") + 8
#: Pauses after a write that failed: doubled each time.
_FIRST_PAUSE_S = 0.005
_LAST_PAUSE_S = 0.5
#: The descriptor is not blocking and full: worth waiting for, even at the end.
_FULL = (errno.EAGAIN, errno.EWOULDBLOCK)


class _Batch(NamedTuple):
    lines: list[bytes]
    size: int
    """Bytes of memory that the lines take, as counted by `put`."""
    waiters: "list[queue.SimpleQueue[None]]"
    """Who is to be told when this and all before it is written."""
    last: bool
    """Is this all there was?"""


def _lost_line(count: int) -> bytes:
    return b"%d lines were lost\n" % count


class LogWriter:
    """A bounded queue of lines and the daemon thread that writes them. `close` it, or the last lines may be lost.

    `write` takes bytes and returns how many it took (as `os.write`); it may block and may raise OSError. `release` is
    called when nothing will be written any more. `lost_line` makes the line, with its line end, that stands where so
    many are missing. Sizes are bytes of memory; what is being written counts until it is written.
    """

    def __init__(
        self,
        write: Callable[[memoryview], int],
        *,
        release: Callable[[], None] = lambda: None,
        lost_line: Callable[[int], bytes] = _lost_line,
        batch_bytes: int = BATCH_BYTES,
        limit_bytes: int = LIMIT_BYTES,
        interval_s: float = INTERVAL_S,
    ) -> None:
        self._write = write
        self._descriptor: int | None = None
        self._release = release
        self._lost_line = lost_line
        self._batch_bytes = batch_bytes
        self._limit = limit_bytes
        self._interval_s = interval_s
        # Reentrant, and the wake-ups too (SimpleQueue is): a destructor may log at any moment, also in the middle of
        # `put`. asyncio's do: "Task exception was never retrieved".
        self._lock = threading.RLock()
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._sealed: deque[tuple[list[bytes], int]] = deque()
        self._lines: list[bytes] = []
        self._size = 0
        self._held = 0
        self._lost = 0
        self._idle = True
        self._woken = False
        self._closing = False
        self._abandoned = False
        self._waiters: list[queue.SimpleQueue[None]] = []
        self._written = 0
        self._thread = threading.Thread(target=self._run, name="log writer", daemon=True)
        self._thread.start()

    @classmethod
    def to_descriptor(cls, descriptor: int, *, lost_line: Callable[[int], bytes] = _lost_line) -> Self:
        """Write to a duplicate of `descriptor`: whoever closes the original cannot make us write into a socket."""
        own = os.dup(descriptor)
        writer = cls(
            functools.partial(os.write, own), release=functools.partial(os.close, own), lost_line=lost_line
        )
        writer._descriptor = own
        return writer

    def lead_to(self, descriptor: int) -> None:
        """Write to a duplicate of this one from now on, what is held too. Only for who writes to a descriptor, and is
        not closed."""
        if self._descriptor is not None and not self._closing:
            os.dup2(descriptor, self._descriptor, inheritable=False)

    def __repr__(self) -> str:
        state = "closed" if not self._thread.is_alive() else "closing" if self._closing else "open"
        return f"<LogWriter {state} held={self._held} lost={self._lost}>"

    def put(self, line: bytes, urgent: bool = False) -> None:
        """Take a line, with its line end, from any thread. Never blocks on the descriptor, never raises.

        An urgent line is written at once, with all before it. When there is no room, the line is lost, and so are
        those after it until half of the memory is free: else every second line would tell of a loss.
        """
        size = len(line) + _OVERHEAD
        with self._lock:
            if (self._lost or self._held + size > self._limit) and not self._has_room_again(size):
                return
            self._lines.append(line)
            self._held += size
            self._size += size
            if self._size >= self._batch_bytes:
                self._sealed.append((self._lines, self._size))
                self._lines, self._size = [], 0
                urgent = True
            if (urgent or self._idle) and not self._woken:
                self._woken = True
                self._wake.put(None)

    def flush(self, *, limit_s: float = 1.0) -> bool:
        """Wait until what has been put is written. Returns False when it was not within `limit_s`."""
        done: queue.SimpleQueue[None] = queue.SimpleQueue()
        with self._lock:
            if self._abandoned or not self._thread.is_alive():
                return not self._held
            self._waiters.append(done)
        self._wake.put(None)
        try:
            done.get(timeout=limit_s)
        except queue.Empty:
            return False
        return True

    def close(self, *, limit_s: float = CLOSE_LIMIT_S, stall_s: float = 3.0) -> bool:
        """Write what there is, and end. Returns whether all was written.

        Gives up after `limit_s`, or earlier when nothing at all was taken for `stall_s`, or at once when the reader
        has gone. A line put later is lost. May be called again.
        """
        self._closing = True
        self._wake.put(None)
        deadline = time.monotonic() + limit_s
        while self._thread.is_alive() and not self._abandoned and (left_s := deadline - time.monotonic()) > 0:
            before = self._written
            self._thread.join(min(stall_s, left_s))
            if self._thread.is_alive() and self._written == before:
                break
        self._abandoned = True
        return not self._thread.is_alive() and not self._held

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _has_room_again(self, size: int) -> bool:
        """Counts the line as lost, or says how many were lost before it."""
        if self._held + size > (self._limit // 2 if self._lost else self._limit):
            self._lost += 1
            return False
        self._tell_loss()
        return True

    def _tell_loss(self) -> None:
        count, self._lost = self._lost, 0
        line = self._lost_line(count)
        self._lines.append(line)
        self._held += len(line) + _OVERHEAD
        self._size += len(line) + _OVERHEAD

    # -- the thread ------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._ends():
                if not self._closing:
                    self._sleep(None if self._idle else self._interval_s)
                self._write_all()
        finally:
            self._release()

    def _ends(self) -> bool:
        with self._lock:
            if not self._closing or ((self._held or self._lost) and not self._abandoned):
                return False
            self._limit = -1  # whatever comes now is lost
            return True

    def _write_all(self) -> None:
        """Write what there is now. What comes meanwhile waits, or each batch would be a few lines."""
        last = False
        while not (last or self._abandoned):
            lines, size, waiters, last = self._take()
            if lines:
                self._write_whole(b"".join(lines))
                if self._abandoned:
                    return
            with self._lock:
                self._held -= size
            for waiter in waiters:
                waiter.put(None)

    def _take(self) -> _Batch:
        with self._lock:
            self._woken = False
            if self._sealed:
                lines, size = self._sealed.popleft()
                return _Batch(lines, size, [], False)
            if self._lost and not self._lines:
                self._tell_loss()
            lines, size = self._lines, self._size
            self._lines, self._size = [], 0
            waiters, self._waiters = self._waiters, []
            self._idle = not (lines or self._lines)
            return _Batch(lines, size, waiters, True)

    def _write_whole(self, data: bytes) -> None:
        """Returns when all of it is written, or when it is time to give up."""
        rest, pause_s = memoryview(data), _FIRST_PAUSE_S
        while rest and not self._abandoned:
            try:
                count = self._write(rest[:BATCH_BYTES])
            except OSError as error:
                if self._closing and error.errno not in _FULL:
                    self._abandoned = True
                    return
                count = 0
            if count:
                rest = rest[count:]
                self._written += count
                pause_s = _FIRST_PAUSE_S
            else:
                self._sleep(pause_s)
                pause_s = min(2 * pause_s, _LAST_PAUSE_S)

    def _sleep(self, limit_s: float | None) -> None:
        with contextlib.suppress(queue.Empty):
            self._wake.get(timeout=limit_s)
