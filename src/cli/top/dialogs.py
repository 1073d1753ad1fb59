"""Questions before something is done that cannot be taken back."""

from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static

_BOX = """
    align: center middle;
    background: transparent;
    & > Vertical {
        width: 72; max-width: 96%; height: auto; max-height: 100%;
        padding: 0 1; border: round ansi_yellow; background: ansi_default; color: ansi_default;
    }
    &.-letters > Vertical { border: ascii ansi_yellow; }
    & Static { background: ansi_default; color: ansi_default; }
    & Input { border: none; height: 1; padding: 0; background: ansi_default; color: ansi_default; }
"""


class Choice(ModalScreen[str | None]):
    """Answered with one key; anything else is no. The result is that key, or None."""

    DEFAULT_CSS = f"Choice {{ {_BOX} }}"

    def __init__(
        self, said: Sequence[str], answers: Mapping[str, str], *, letters: bool = False, no: str = "no"
    ) -> None:
        """`answers`: what each key stands for; `no`: what escape does. `letters`: nothing but ASCII is drawn."""
        super().__init__(classes="-letters" if letters else "")
        self._said = said
        self._answers = answers
        self._no = no

    def compose(self) -> ComposeResult:
        keys = Text("   ").join(
            Text.assemble((key, "bold"), f" {word}")
            for key, word in {**self._answers, "esc": self._no}.items()
        )
        with Vertical():
            for line in self._said:
                yield Static(Text(line))
            yield Static("")
            yield Static(keys)

    def on_key(self, event: events.Key) -> None:
        event.stop()
        event.prevent_default()
        self.dismiss(event.key if event.key in self._answers else None)


class Typed(ModalScreen[str | None]):
    """Answered by typing one of `accepted` and enter. The result is that word, or None."""

    DEFAULT_CSS = f"Typed {{ {_BOX} }}"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,ctrl+c", "dismiss(None)", show=False, priority=True)
    ]

    def __init__(self, said: Sequence[str], accepted: Collection[str], *, letters: bool = False) -> None:
        super().__init__(classes="-letters" if letters else "")
        self._said = said
        self._accepted = accepted

    def compose(self) -> ComposeResult:
        with Vertical():
            for line in self._said:
                yield Static(Text(line))
            yield Static("")
            box = Input(placeholder="type it here; esc: no", compact=True)
            box.cursor_blink = False
            yield box
            yield Static("", id="wrong")

    def on_mount(self) -> None:
        self.query_one(Input).focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        word = event.value.strip()
        if word in self._accepted:
            self.dismiss(word)
        elif word:
            self.query_one("#wrong", Static).update(Text("that is not it; nothing was done", style="red"))
        else:
            self.dismiss(None)
