"""An error in a worker, on its way to the loop that iterates over the DataLoader."""
from __future__ import annotations

import traceback
from typing import Any


class Message(str):
    """A text that stays readable in a KeyError, which shows the repr of its argument."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


class Failure:
    """The type and traceback of an exception, and what was being loaded."""

    def __init__(self, error: BaseException, where: str, fetch: Any = None,
                 index: Any = None) -> None:
        self.type: type[BaseException] = type(error)
        self.text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        self.where = where
        self.at = "" if fetch is None else fetch.place(index)

    def error(self) -> BaseException:
        """An exception of the same type that says all of this; RuntimeError if there can't be one.
        """
        text = f"Caught {self.type.__name__} {self.where}.\nOriginal {self.text}"
        if self.at:
            text += f"\nIt was {self.at}."
        if not issubclass(self.type, Exception):        # SystemExit in a thread
            return RuntimeError(text)
        try:
            if issubclass(self.type, KeyError):
                return self.type(Message(text))
            if getattr(self.type, "message", None):
                return self.type(message=text)  # type: ignore[call-arg]
            return self.type(text)
        except Exception:               # its constructor wants something else
            return RuntimeError(text)

    def __getstate__(self) -> dict[str, Any]:
        import pickle

        state = dict(self.__dict__)
        try:                            # classes are pickled by name: a local one has none
            pickle.dumps(self.type)
        except Exception:
            state["text"] = f"({self.type.__name__} can't be pickled)\n{self.text}"
            state["type"] = RuntimeError
        return state
