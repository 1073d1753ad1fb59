"""curl, the client that everybody has."""

import asyncio

_LIMIT_S = 30.0


async def curl(*arguments: str) -> bytes:
    """What it printed. Silent but for errors, without a configuration of the user's. Fails when curl does."""
    process = await asyncio.create_subprocess_exec(
        "curl",
        "-q",
        "-sS",
        "--noproxy",
        "*",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_LIMIT_S):
            out, err = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    assert process.returncode == 0, f"curl ended with {process.returncode}: {err.decode()}"
    return out
