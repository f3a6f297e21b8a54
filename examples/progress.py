"""A progress bar: redrawn in place on a terminal; elsewhere only its last, plain line."""
from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

_BAR_WIDTH = 24
_REDRAW_SECONDS = 0.1


class Bar:
    """``label ━━━━━━──── 12/45  text``, on standard error unless told otherwise.

    ``advance`` is given a function for the text and calls it only when the line is due to be
    redrawn, so a loop on a GPU reads its running loss ten times a second and not at every batch.
    """

    def __init__(self, label: str, total: int, done: int = 0, stream: TextIO | None = None) -> None:
        self.label, self.total, self.done = label, total, done
        self.stream: Any = sys.stderr if stream is None else stream
        self.live = self.stream.isatty()
        self.full, self.rest = ("━", "─") if _can_print("━─", self.stream) else ("#", ".")
        self.drawn_at = 0.0

    def advance(self, describe: Callable[[], str]) -> None:
        """One more step is done."""
        self.done += 1
        now = time.monotonic()
        if self.live and now - self.drawn_at >= _REDRAW_SECONDS:
            self.drawn_at = now
            self._draw(describe())

    def close(self, text: str) -> None:
        """Replace the bar by a last line, which stays."""
        self.stream.write(("\r\x1b[2K" if self.live else "") + f"{self.label}  {text}\n")
        self.stream.flush()

    def _draw(self, text: str) -> None:
        count = f"{self.done:{len(str(self.total))}d}/{self.total}"
        columns = shutil.get_terminal_size().columns - 1
        width = min(_BAR_WIDTH, columns - len(self.label) - len(count) - len(text) - 4)
        filled = max(width, 0) * self.done // max(self.total, 1)
        bar = self.full * filled + self.rest * (width - filled)
        line = "  ".join(part for part in (f"{self.label} {bar}".rstrip(), count, text))
        self.stream.write("\r\x1b[2K" + line[:columns])
        self.stream.flush()


def _can_print(text: str, stream: Any) -> bool:
    try:
        text.encode(getattr(stream, "encoding", None) or "ascii")
    except UnicodeEncodeError:
        return False
    return True
