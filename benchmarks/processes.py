"""Processes that measure: each has an object, whose methods it calls when it is asked to."""
from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any


class Failed(Exception):
    """A process couldn't do what was asked of it."""


class Slow(Failed):
    """It took too long, and was ended."""


def serve(pipe: Connection, make: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """Answer (method, argument) with (True, its result) or (False, why not), until the pipe ends.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)            # an interrupt closes the pipe
    server: Any = None
    while True:
        try:
            what, argument = pipe.recv()
        except EOFError:
            return
        try:
            server = server or make(*arguments)
            pipe.send((True, getattr(server, what)(argument)))
        except Exception as e:
            where = traceback.extract_tb(e.__traceback__)[-1]
            said = " ".join(str(e).split())
            said = said if len(said) <= 400 else f"{said[:200]} ... {said[-200:]}"
            pipe.send((False, f"{type(e).__name__}: {said} ({os.path.basename(where[0])}, "
                              f"line {where[1]})"))


class Worker:
    """A process with what ``make(*arguments)`` makes there, when it is first asked something."""

    def __init__(self, make: Callable[..., Any], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, far = context.Pipe()
        self.process = context.Process(target=serve, args=(far, make, arguments))
        self.process.start()
        far.close()                             # so that its death ends our waiting for it

    def ask(self, what: str, argument: Any = None, seconds: float | None = None) -> Any:
        """The result of a method; Failed says why not, Slow that it took longer than ``seconds``.
        """
        try:
            self.pipe.send((what, argument))
            if seconds is not None and not self.pipe.poll(max(0.0, seconds)):
                self.process.kill()
                self.close()
                raise Slow(f"took longer than {seconds:.0f} s")
            good, answer = self.pipe.recv()
        except (EOFError, OSError):
            self.close()
            raise Failed("its process ended") from None
        if not good:
            raise Failed(answer)
        return answer

    def close(self) -> None:
        self.pipe.close()               # it ends by itself, with processes that it started
        self.process.join(5)
        if self.process.is_alive():
            self.process.terminate()
            self.process.join()
