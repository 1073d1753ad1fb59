"""What is remembered of a prompt or a session: hashes that mean nothing outside this process.

They are keyed, so that nobody who sees one can try texts against it, and nobody can make texts that collide.
"""

from hashlib import blake2b

_DIGEST_BYTES = 8
_STEPS_PER_DOUBLING = 8


def boundaries(blocks: int) -> tuple[int, ...]:
    """Where a prompt of so many blocks is hashed, in blocks from its beginning: after every one of the first, later
    after an eighth more each time. So a short conversation is told from its neighbours after a sentence, and a long
    prompt still has few hashes: 47 for 256 blocks."""
    found, at = [], 0
    while (at := at + max(1, at // _STEPS_PER_DOUBLING)) <= blocks:
        found.append(at)
    return tuple(found)


class Fingerprint:
    """Hashes with one key."""

    def __init__(self, key: bytes, *, block_bytes: int = 256, max_bytes: int = 64 * 1024) -> None:
        """`key`: 16 to 64 bytes that nobody can guess, made anew by each process. `block_bytes`: how finely prompts
        are told apart near their beginning. `max_bytes`: how far from it they are looked at."""
        self._prompts = blake2b(key=key, digest_size=_DIGEST_BYTES, person=b"prompt")
        self._sessions = blake2b(key=key, digest_size=_DIGEST_BYTES, person=b"session")
        self.max_bytes = max_bytes
        self._ends = tuple(at * block_bytes for at in boundaries(max_bytes // block_bytes))

    def __repr__(self) -> str:
        return f"<Fingerprint of {self.max_bytes} bytes>"

    def prefix(self, model: bytes, prompt: bytes | memoryview) -> tuple[int, ...]:
        """Hashes of ever longer beginnings of `prompt`, each covering all before it and the model. What follows the
        last boundary is left out: it is what grows. A prompt shorter than a block has none."""
        hashed = self._prompts.copy()
        hashed.update(len(model).to_bytes(4, "big") + model)
        view, found, at = memoryview(prompt), [], 0
        for end in self._ends:
            if end > len(view):
                break
            hashed.update(view[at:end])
            at = end
            found.append(int.from_bytes(hashed.copy().digest(), "big"))
        return tuple(found)

    def session(self, value: bytes) -> int:
        """The hash of a session's key."""
        hashed = self._sessions.copy()
        hashed.update(value)
        return int.from_bytes(hashed.digest(), "big")
