"""What the demo prints, on a console that is handed in. It remembers only what it has said already."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from rich.console import Console
from rich.text import Text

_STATE_COLOURS = {"healthy": "green", "unhealthy": "red", "connecting": "yellow", "discovered": "yellow"}


class BackendFacts(Protocol):
    """What is told about a backend."""

    @property
    def id(self) -> int: ...
    @property
    def state(self) -> str: ...
    @property
    def path(self) -> str | None: ...
    @property
    def engine(self) -> str | None: ...
    @property
    def gpu_name(self) -> str: ...


class DemoView:
    """Lines for people; an answer is printed token by token."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._said: dict[int, tuple[str, str | None]] = {}
        self._answering = False

    def account(self, url: str, ids: Sequence[int]) -> None:
        self._line(
            ("Simulated vast.ai account", "bold"),
            f" on {url} with {len(ids)} instances, SSH servers and engines",
        )

    def waiting(self, count: int) -> AbstractContextManager[object]:
        """A spinner on a terminal, nothing elsewhere."""
        if not self._console.is_terminal:
            return contextlib.nullcontext()
        return self._console.status(f"connecting to {count} instances")

    def backends(self, backends: Sequence[BackendFacts]) -> None:
        """Tell what has changed since the last call."""
        for backend in backends:
            now = (backend.state, backend.path)
            if self._said.get(backend.id) == now:
                continue
            self._said[backend.id] = now
            facts = ", ".join(fact for fact in (backend.engine, backend.path, backend.gpu_name) if fact)
            colour = _STATE_COLOURS.get(backend.state, "")
            self._line(f"  {backend.id}  ", (f"{backend.state:<12}", colour), facts)

    def question(self, text: str) -> None:
        self._line()
        self._line(("Question  ", "bold"), text)
        self._console.print(Text("Answer   ", style="bold"), end="")
        self._answering = True

    def token(self, text: str) -> None:
        self._console.out(text, end="", highlight=False)

    def answered(self, instance: str, first_token_s: float, tokens: int, total_s: float) -> None:
        self._finish_answer()
        rate = (tokens - 1) / (total_s - first_token_s) if tokens > 1 and total_s > first_token_s else 0.0
        self._line(
            ("Served by ", "bold"),
            f"instance {instance} (X-VastProxy-Instance), first token after {first_token_s * 1000:.0f} ms, "
            f"{tokens} tokens at {rate:.0f}/s",
        )

    def how_to_ask(self, url: str, model: str) -> None:
        """Two ways that work as pasted."""
        body = (
            f'{{"model": "{model}", "stream": true, "messages": [{{"role": "user", "content": "Hello!"}}]}}'
        )
        self._line()
        self._line(("Watch it", "bold"), f" in a browser: {url}/vastproxy/")
        self._line()
        self._line(("Ask it yourself", "bold"), " while the demo runs:")
        self._line()
        self._line(f"curl -N {url}/v1/chat/completions -H 'Content-Type: application/json' -d '{body}'")
        self._line()
        for line in _python(url, model):
            self._line(line)
        self._line()

    def chaos_begins(self, clients: int) -> None:
        self._line(("Chaos", "bold red"), f": things break now while {clients} clients keep asking")

    def incident(self, text: str, *, healed: bool) -> None:
        self._line(("  heals   " if healed else "  breaks  ", "green" if healed else "red"), text)

    def failed(self, instance: str, error: str) -> None:
        self._line(("  failed  ", "yellow"), f"a request{f' on {instance}' if instance else ''}: {error}")

    def tally(self, ok: int, failed: int, by_instance: Mapping[str, int]) -> None:
        shares = ", ".join(f"{name}: {count}" for name, count in sorted(by_instance.items()))
        self._line(("  requests", "bold"), f"  {ok} ok, {failed} failed  ({shares or 'none answered yet'})")

    def _finish_answer(self) -> None:
        if self._answering:
            self._console.out("", highlight=False)
            self._answering = False

    def _line(self, *parts: str | tuple[str, str]) -> None:
        self._finish_answer()
        self._console.print(Text.assemble(*parts), soft_wrap=True)


def _python(url: str, model: str) -> Iterator[str]:
    yield "from openai import OpenAI"
    yield f'client = OpenAI(base_url="{url}/v1", api_key="unused")'
    yield 'question = [{"role": "user", "content": "Hello!"}]'
    yield f'for chunk in client.chat.completions.create(model="{model}", messages=question, stream=True):'
    yield '    print(chunk.choices[0].delta.content or "", end="", flush=True)'
