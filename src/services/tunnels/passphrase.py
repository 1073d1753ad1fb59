"""Where the passphrase of a private key may come from: a setting, or a person at a terminal."""

import getpass
import sys
import warnings
from collections.abc import Callable
from typing import TextIO

#: Asks a person for a passphrase with this text and returns it; raises EOFError where nobody answers.
Prompt = Callable[[str], str]

#: How often a person is asked for the passphrase of one key, as ssh does (NumberOfPasswordPrompts).
MAX_TRIES = 3


def terminal_prompt(stdin: TextIO | None = None, stderr: TextIO | None = None) -> Prompt | None:
    """Asks on the terminal without showing what is typed; None where nobody sits at one.

    A service started by a supervisor has no terminal and must not wait for one.
    """
    stdin = sys.stdin if stdin is None else stdin
    stderr = sys.stderr if stderr is None else stderr
    if stdin is None or stderr is None:  # as under pythonw or a closed descriptor
        return None
    if not (stdin.isatty() and stderr.isatty()):
        return None
    stream = stderr

    def ask(text: str) -> str:
        with warnings.catch_warnings():
            # Where the echo cannot be switched off, getpass would only warn and show the passphrase.
            warnings.simplefilter("error", getpass.GetPassWarning)
            try:
                return getpass.getpass(text, stream=stream)
            except getpass.GetPassWarning:
                raise EOFError("the terminal cannot hide what is typed") from None
            except UnicodeDecodeError:  # whose message shows what was typed
                stream.write("\n")
                raise EOFError("it is not text in the terminal's encoding") from None
            except (EOFError, KeyboardInterrupt):
                stream.write("\n")  # what is said next begins its own line
                raise

    return ask
