"""Timer: how long a statement takes, waiting for the GPU where one is in use."""
from __future__ import annotations

import statistics
import time
import timeit
from collections.abc import Callable
from typing import Any


def timer() -> float:
    """Seconds, once the GPU has done what it was given."""
    from gpugrad import cuda

    if cuda.is_initialized():
        cuda.synchronize()
    return time.perf_counter()


class Measurement:
    """Times of a statement: raw_times are those of ``number_per_run`` runs each, in seconds."""

    def __init__(self, number_per_run: int, raw_times: list[float], title: str = "") -> None:
        self.number_per_run, self.raw_times, self.title = number_per_run, raw_times, title

    @property
    def times(self) -> list[float]:
        """Seconds of one run."""
        return [t / self.number_per_run for t in self.raw_times]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.times)

    @property
    def median(self) -> float:
        return statistics.median(self.times)

    @property
    def iqr(self) -> float:
        """The distance between the quartiles."""
        if len(self.times) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.times, method="inclusive")
        return high - low

    def __repr__(self) -> str:
        scale, unit = next((s, u) for s, u in ((1, "s"), (1e3, "ms"), (1e6, "us"), (1e9, "ns"))
                           if self.median * s >= 1 or u == "ns")
        text = f"  {'Median' if len(self.times) > 1 else 'Time'}: {self.median * scale:.2f} {unit}"
        if len(self.times) > 3:
            text += f"\n  IQR:    {self.iqr * scale:.2f} {unit}"
        n = len(self.times)
        return (f"<{__name__}.Measurement object>\n{self.title}\n{text}\n  {n} "
                f"measurement{'s' if n > 1 else ''}, {self.number_per_run} "
                f"run{'s' if self.number_per_run > 1 else ''} per measurement, 1 thread")


class Timer:
    """Measures a statement given as text, with the names of ``globals``.

    num_threads: without effect, NumPy's BLAS decides. timeit(number), blocked_autorange() and
    adaptive_autorange() return a Measurement.
    """

    def __init__(self, stmt: str = "pass", setup: str = "pass", global_setup: str = "",
                 timer: Callable[[], float] = timer, globals: dict[str, Any] | None = None,
                 label: str | None = None, sub_label: str | None = None,
                 description: str | None = None, env: str | None = None, num_threads: int = 1,
                 language: Any = "python") -> None:
        if not isinstance(stmt, str):
            raise ValueError("Currently only a `str` stmt is supported.")
        if global_setup or language not in ("python", "py", 0):
            raise NotImplementedError("Timer measures Python only")
        self._clock = timer
        self._timer = timeit.Timer(stmt, setup, timer, dict(globals or {}))
        self.title = label or stmt
        if sub_label or description:
            self.title += "\n" + ": ".join(filter(None, (sub_label, description)))

    def timeit(self, number: int = 1_000_000) -> Measurement:
        """``number`` runs, after a few to warm up."""
        self._timer.timeit(max(number // 100, 2))
        return Measurement(number, [self._timer.timeit(number)], self.title)

    def blocked_autorange(self, callback: Any = None,
                          min_run_time: float = 0.2) -> Measurement:
        """Blocks of as many runs as make the clock's own time small, for min_run_time seconds."""
        number = self._block(min_run_time)
        times: list[float] = []
        total = 0.0
        while total < min_run_time or not times:
            spent = self._timer.timeit(number)
            times.append(spent)
            total += spent
            if callback is not None:
                callback(number, spent)
        return Measurement(number, times, self.title)

    adaptive_autorange = blocked_autorange

    def _block(self, min_run_time: float) -> int:
        """How many runs make a block that takes long beside the clock, and short beside the whole.
        """
        self._timer.timeit(2)
        overhead = min([timeit.Timer("pass", timer=self._clock).timeit(0) for _ in range(5)])
        number = 1
        while True:
            spent = self._timer.timeit(number)
            if (overhead <= spent / 1e3 and spent >= min_run_time / 1000) or spent > min_run_time:
                return number
            number *= 10
