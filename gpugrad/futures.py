"""torch.futures: results that are there at once, or that another thread sets."""
from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable
from typing import Any


class Future(concurrent.futures.Future[Any]):
    """A result that may come later.

    devices is taken, and without effect.
    """

    def __init__(self, *, devices: Any = None) -> None:
        super().__init__()

    def wait(self) -> Any:
        """The result, or the error that was set, once it is there."""
        return self.result()

    def value(self) -> Any:
        """The result, which must be there."""
        if not self.done():
            raise RuntimeError("the future has no value yet: wait() for it")
        return self.result()

    def set_result(self, result: Any) -> None:
        """Give the result; RuntimeError if there is one."""
        try:
            super().set_result(result)
        except concurrent.futures.InvalidStateError:
            raise RuntimeError("the future is complete: a result can be set only once") from None

    def set_exception(self, exception: BaseException | None) -> None:
        """Give the error that wait() and value() raise; RuntimeError if there is a result."""
        if not isinstance(exception, Exception):
            raise AssertionError(f"{exception} is of type {type(exception)}, not an Exception.")
        try:
            super().set_exception(exception)
        except concurrent.futures.InvalidStateError:
            raise RuntimeError("the future is complete: an error can't be set any more") from None

    def then(self, callback: Callable[[Future], Any]) -> Future:
        """The future of callback(self), which is called when the result is there."""
        after = Future()

        def run(_: Any) -> None:
            try:
                after.set_result(callback(self))
            except Exception as error:
                after.set_exception(error)
        super().add_done_callback(run)
        return after


def collect_all(futures: list[Future]) -> Future:
    """A future of the list, once all of them are done; it has the first error of theirs."""
    out: Future = Future()
    lock, left = threading.RLock(), [len(futures)]

    def one_is_done(f: Any) -> None:
        with lock:
            left[0] -= 1
            error = f.exception()
            if error is not None and not out.done():
                out.set_exception(error)
            elif left[0] == 0 and not out.done():
                out.set_result(futures)

    for future in futures:
        future.add_done_callback(one_is_done)
    if not futures:
        out.set_result([])
    return out


def wait_all(futures: list[Future]) -> list[Any]:
    """The results of all of them."""
    return [future.wait() for future in futures]
