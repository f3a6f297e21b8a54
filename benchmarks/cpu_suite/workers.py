"""The processes that measure: one for each column, which take turns."""
from __future__ import annotations

import gc
import os
import statistics
import time
import timeit
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

from cpu_suite import rows
from cpu_suite.rows import Library, Row
from measure import installed, limit_threads, summary
from processes import Failed, Worker

SAMPLE = 1 << 16        # elements of a result that are compared one by one


# In a worker --------------------------------------------------------------------------------------

class Server:
    """One library in one process, and the row that it is at."""

    def __init__(self, column: str, threads: int) -> None:
        if column == "numpy":
            os.environ["GPUGRAD_CPU_KERNELS"] = "0"
        limit_threads(threads)
        warnings.filterwarnings("ignore", "graph_step")     # notes() tells it
        self.lib = Library(column)
        self.lib.torch.set_num_threads(threads)
        self.timer = timeit.Timer()

    def notes(self, _: Any) -> list[str]:
        """Why a recorded step isn't one."""
        return [f"runs eagerly: {step.reason or 'never replayed'}" for step in self.lib.steps
                if step.reason or not step.replays]

    def facts(self, _: Any) -> dict[str, Any]:
        """Is there a recorded step, and why no compiled helper?"""
        found: dict[str, Any] = {"recorded": hasattr(self.lib.torch, "graph_step")}
        if self.lib.name == "gpugrad":
            from gpugrad.backend import compiled
            found["helper"] = "compiled" if compiled.library() else compiled.why_not[0]
        return found

    def make(self, argument: tuple[str, int]) -> list[Any]:
        """Make a row's case. What are its results?"""
        key, size = argument
        self.timer = timeit.Timer()
        gc.collect()
        self.lib.restart()
        case = rows.load()[key].make(self.lib, size)
        results = [digest(x, self.lib.np) for x in case.results()]
        # As in a program, and unlike timeit's habit, the garbage collector stays on.
        self.timer = timeit.Timer(case.call, "import gc; gc.enable()", globals=case.names)
        return results

    def warm(self, seconds: float) -> int:
        """Run for a while; how many calls take so many seconds?"""
        loops, took = 1, self.timer.timeit(1)
        began = time.perf_counter()
        while time.perf_counter() - began < 2 * seconds and took < seconds:
            loops = max(loops + 1, int(loops * min(8.0, seconds / max(took, 1e-9))))
            took = self.timer.timeit(loops)
        return max(1, round(loops * seconds / took))

    def time(self, loops: int) -> float:
        """Seconds of a call. Where calls are short, a few go before, to fill the caches."""
        if loops > 3:
            self.timer.timeit(1 + loops // 20)
        return self.timer.timeit(loops) / loops


def digest(x: Any, np: Any) -> tuple[tuple[int, ...], Any, float]:
    """Shape, evenly spread elements, and the mean of the magnitudes."""
    a = np.asarray(x.detach().numpy() if hasattr(x, "detach") else x)
    flat = a.reshape(-1)
    spread = flat[::max(1, flat.size // SAMPLE) | 1].astype(np.float64)
    return a.shape, spread, float(np.abs(flat).mean(dtype=np.float64)) if flat.size else 0.0


def difference(found: Sequence[Any], expected: Sequence[Any], tolerance: float, whose: str) -> str:
    """In what digests differ from those of another column; "" if they agree."""
    if len(found) != len(expected):
        return f"{len(found)} results, where {whose} has {len(expected)}"
    for i, ((shape, values, mean), (as_shape, as_values, as_mean)) in enumerate(
            zip(found, expected)):
        if shape != as_shape:
            return f"result {i} has shape {shape}, and {whose}'s has {as_shape}"
        if not values.size:
            continue
        largest = max(float(abs(as_values).max()), 1e-6)
        for error in float(abs(values - as_values).max()), abs(mean - as_mean):
            if not error <= tolerance * largest:        # nor if it is NaN
                return (f"result {i} differs from {whose}'s by {error / largest:.2g} of the "
                        f"largest element; allowed are {tolerance:.2g}")
    return ""


# In front of them ---------------------------------------------------------------------------------

class Pool:
    """The workers for one number of threads, started when a row first needs them."""

    def __init__(self, threads: int, rounds: int, turn: float, limit: float, quick: bool) -> None:
        """``turn``: seconds that a column measures before the next one does; ``limit``: seconds
        after which a row gets no more rounds than three."""
        self.threads, self.rounds, self.turn, self.limit = threads, rounds, turn, limit
        self.quick = quick
        # Threads of a BLAS go on spinning for a while when their work is done.
        self.pause = 0.0 if threads == 1 else 0.01 if quick else 0.04
        self.workers: dict[str, Worker] = {}
        self.known: dict[str, Any] = {}

    def worker(self, column: str) -> Worker:
        found = self.workers.get(column)
        if found is None or not found.process.is_alive():
            found = self.workers[column] = Worker(Server, column, self.threads)
        return found

    def facts(self) -> dict[str, Any]:
        """What gpugrad has here: a recorded step, a compiled helper."""
        if not self.known:
            self.known = self.worker("gpugrad").ask("facts")
        return self.known

    def columns(self, row: Row) -> list[str]:
        """Of a row, here."""
        return [c for c in row.columns if (c != "torch" or installed("torch"))
                and (c != "recorded" or self.facts()["recorded"])]

    def close(self) -> None:
        for worker in self.workers.values():
            worker.close()
        self.workers = {}

    # A row ----------------------------------------------------------------------------------------

    def measure(self, row: Row) -> dict[str, Any]:
        """What report.py writes down."""
        columns = self.columns(row)
        notes: list[str] = []
        if row.fresh:
            times, errors = self.fresh(row, columns)
        else:
            ready, errors = self.prepare(row, columns)
            loops: dict[str, int] = {}
            for column in ready:
                self.attempt(errors, column, lambda c: loops.update(
                    {c: self.worker(c).ask("warm", self.turn)}))
            times = self.take_turns(loops, errors)
            if "recorded" in loops and "recorded" not in errors:
                self.attempt(errors, "recorded",
                             lambda c: notes.extend(self.worker(c).ask("notes")))
        for column in errors:
            times.pop(column, None)
        return result(row, self.threads, self.quick, times, errors, notes)

    def prepare(self, row: Row, columns: list[str]) -> tuple[list[str], dict[str, str]]:
        """Make the cases, and compare their results."""
        digests: dict[str, Any] = {}
        errors: dict[str, str] = {}
        for column in columns:
            self.attempt(errors, column, lambda c: digests.update(
                {c: self.worker(c).ask("make", (row.key, row.size[self.quick]))}))
        reference: Any = next(iter(digests), "")
        for column, found in digests.items():
            if said := difference(found, digests[reference], row.tolerance, reference):
                errors[column] = said
        if "recorded" in digests and "gpugrad" in digests:          # to the bit
            if said := difference(digests["recorded"], digests["gpugrad"], 0.0, "gpugrad"):
                errors.setdefault("recorded", said)
        return [c for c in digests if c not in errors], errors

    def take_turns(self, loops: dict[str, int], errors: dict[str, str]) -> dict[str, list[float]]:
        """Seconds by column and round; who begins changes from round to round."""
        times: dict[str, list[float]] = {column: [] for column in loops}
        began = time.perf_counter()
        for i in range(self.rounds):
            if i >= 3 and time.perf_counter() - began > self.limit:
                break
            order = list(loops)
            for column in order[i % max(1, len(order)):] + order[:i % max(1, len(order))]:
                if column not in errors:
                    time.sleep(self.pause)
                    self.attempt(errors, column, lambda c: times[c].append(
                        self.worker(c).ask("time", loops[c])))
        return times

    def fresh(self, row: Row, columns: Iterable[str]
              ) -> tuple[dict[str, list[float]], dict[str, str]]:
        times: dict[str, list[float]] = {column: [] for column in columns}
        errors: dict[str, str] = {}
        assert row.fresh
        measure = row.fresh
        for _ in range(1 if self.quick else min(self.rounds, 2 if row.unit == "B" else 5)):
            for column in times:
                if column not in errors:
                    self.attempt(errors, column, lambda c: times[c].extend(
                        measure(c, self.threads, row.size[self.quick])))
        return times, errors

    @staticmethod
    def attempt(errors: dict[str, str], column: str, work: Any) -> None:
        """One column that fails doesn't end the others' row."""
        try:
            work(column)
        except (Failed, RuntimeError) as e:
            errors[column] = str(e)


def result(row: Row, threads: int, quick: bool, times: dict[str, list[float]],
           errors: dict[str, str], notes: list[str]) -> dict[str, Any]:
    """One row as it is kept: torch's time over the others' is taken round by round."""
    ratios = {}
    if times.get("torch"):
        for column, values in times.items():
            if column not in ("torch", "bare") and values:
                ratios[column] = summary([t / v for t, v in zip(times["torch"], values)])
    as_meant = not quick or row.size[0] == row.size[1]          # aims are for the full size
    found: dict[str, Any] = {
        "theme": row.theme, "name": row.title(quick), "threads": threads, "unit": row.unit,
        "rounds": max(map(len, times.values()), default=0),
        "values": {column: summary(values) for column, values in times.items() if values},
        "ratios": ratios,
        "aims": {column: row.aim(column, threads) for column in row.aims if as_meant},
    }
    if times.get("bare") and times.get("gpugrad"):
        found["added"] = statistics.median(
            [t / v - 1 for t, v in zip(times["gpugrad"], times["bare"])])
    found.update({name: said for name, said in (("errors", errors), ("notes", notes)) if said})
    return found
