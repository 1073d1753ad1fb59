"""One request as the ledger hears of it, and its tokens: told by the engine, or estimated. Pure."""

from typing import Final

#: What is noted at a request's end: instance id, model, name of the key, operation (as `operation_of` tells), status,
#: code of an error of ours, tokens of prompt and answer as the engine told them, reads in which the answer came, was
#: it a stream, bytes received from and sent to the client, seconds to the first byte and to the end. A plain tuple:
#: at this place anything else costs more than all the rest.
Entry = tuple[
    int,
    str | None,
    str | None,
    str,
    int,
    str | None,
    int | None,
    int | None,
    int,
    bool,
    int,
    int,
    float | None,
    float,
]

#: Operations whose tokens are estimated where the engine tells none.
_GENERATIONS: Final = frozenset({"chat", "text_completion"})
_EMBEDDINGS: Final = "embeddings"
#: Bytes of a body for each token: English text in JSON.
BYTES_PER_TOKEN: Final = 4
_LEFT: Final = 499


def tokens_of(entry: Entry) -> tuple[int, int, int]:
    """Tokens of prompt and answer, and how many of these are an estimate.

    The estimate: a prompt has a token for each four bytes of the request's body; an answer has one for each piece in
    which a stream came, and one for each four bytes of its body else. What an engine refused, or had not begun to
    answer when its client left, has none, and so has what is no generation of text.
    """
    operation, status, told_in, told_out, pieces, streamed, received, sent, ttft_s = (
        *entry[3:5],
        *entry[6:13],
    )
    if told_in is not None and told_out is not None:
        return told_in, told_out, 0
    is_known = operation in _GENERATIONS or operation == _EMBEDDINGS
    if not is_known or ttft_s is None or (status >= 400 and status != _LEFT):
        return told_in or 0, told_out or 0, 0
    guessed_in = guessed_out = 0
    if told_in is None:
        guessed_in = -(-received // BYTES_PER_TOKEN)
    if told_out is None and operation != _EMBEDDINGS:
        guessed_out = pieces if streamed else -(-sent // BYTES_PER_TOKEN)
    return (told_in or 0) + guessed_in, (told_out or 0) + guessed_out, guessed_in + guessed_out
