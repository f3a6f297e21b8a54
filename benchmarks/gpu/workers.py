"""The processes that measure, one for each column, and their turns."""
from __future__ import annotations

import contextlib
import gc
import subprocess
import time
from collections.abc import Iterable, Sequence
from typing import Any

from gpu import rows
from gpu.libraries import GRAPHS, REFERENCE, WAYS, Library, Missing
from gpu.rows import Case, Part
from measure import percentiles
from processes import Failed, Slow, Worker

WARM_UPS, SHORTEST = 10, 1.0            # calls before anything is timed; milliseconds of a sample
ROUNDS, SAMPLES = 4, 6                  # turns of each column, samples in each
LIMIT = 150.0                           # seconds that one question to a column may take
LIMITS = {"compile": 240.0, "compile-max": 400.0}
LOOK = 5.0                              # seconds between two looks at the clocks
SAMPLE = 1 << 16                        # elements of a result that are compared one by one
ERRORS = {"float32": 1e-4, "tf32": 3e-3, "float16": 4e-3, "bfloat16": 3e-2}
LOSS_ERRORS = {"float32": 5e-4, "tf32": 2e-3, "amp": 2e-2}
SURE, LATER = 3, 4.0                    # losses that must agree so well, and how much less others


# In a worker --------------------------------------------------------------------------------------

class Server:
    """One column's library, and the row that it is at."""

    def __init__(self, column: str, dry_run: bool) -> None:
        self.column, self.dry_run = column, dry_run
        self.lib: Any = None
        self.case: Any = None
        self.loops = 1
        self.before: int | None = None
        self.inside = contextlib.ExitStack()

    def facts(self, _: Any) -> dict[str, Any]:
        """What the column is, or {"missing": why}."""
        try:
            self.lib = Library(self.column, self.dry_run)
        except Missing as e:
            return {"missing": str(e)}
        gc.collect()
        gc.freeze()                     # modules stay: no need to look at them after each row
        return self.lib.facts()

    def make(self, key: str) -> dict[str, Any]:
        """Make a row's case. What are its results, and how much work is it?"""
        lib: Library = self.lib
        self.before = lib.free()
        part = rows.parts(self.dry_run)[key]
        lib.restart(part.precision, part.layout)
        began = time.perf_counter()
        # Steps of gpugrad's graphs find a stream themselves.
        if self.column in GRAPHS and lib.device == "cuda" and (
                part.row.suite != "steps" or lib.name == "torch"):
            self.inside.enter_context(lib.side_stream())
        try:
            case: Case = part.row.make(lib, self.dry_run)
            results = [self.digest(x) for x in case.results()]
        except Exception as e:
            self.drop(None)
            # A convolution that can't go a column's way is a ValueError.
            if isinstance(e, NotImplementedError) or (
                    self.column in WAYS and isinstance(e, ValueError)):
                return {"unsupported": str(e)[:300]}
            raise
        lib.synchronize()
        self.case = case
        return {"results": results, "work": case.work, "note": case.note(),
                "seconds": time.perf_counter() - began}

    def digest(self, x: Any) -> Any:
        """A number as it is; of a tensor evenly spread elements and the mean magnitude."""
        if not hasattr(x, "detach"):
            return float(x)
        torch = self.lib.torch
        flat = x.detach().reshape(-1)
        spread = flat[::max(1, flat.numel() // SAMPLE) | 1].to(torch.float64)
        # In float32, so that a large result isn't there twice as float64.
        mean = flat.abs().mean(dtype=torch.float64 if flat.dtype == torch.float64
                               else torch.float32)
        return tuple(x.shape), spread.cpu().numpy(), float(mean)

    def warm(self, _: Any) -> int:
        """Run for a while; how many calls take at least a millisecond?"""
        lib, calls = self.lib, self.case.calls
        if self.dry_run:
            for call in calls[:2]:
                call()
            return 1
        began = time.perf_counter()
        for i in range(WARM_UPS):
            calls[i % len(calls)]()
            if i >= 2 and time.perf_counter() - began > 5:
                break
        self.loops = 1
        while lib.elapsed(calls, self.loops) * self.loops < SHORTEST and self.loops < 1 << 14:
            self.loops *= 2
        return self.loops

    def time(self, count: int) -> list[float]:
        """So many samples, in milliseconds of what the row is called."""
        return [self.lib.elapsed(self.case.calls, self.loops) / self.case.per
                for _ in range(count)]

    def rest(self, _: Any) -> dict[str, Any]:
        """The host's time for a call, and memory. Measured last: counting costs time."""
        lib, case = self.lib, self.case
        found: dict[str, Any] = {"peak": lib.peak(case.calls)}
        if not self.dry_run:
            found["host_us"] = lib.queued(case.calls, max(10, min(100, self.loops))) / case.per
            free = lib.free()
            if free is not None and self.before is not None:
                found["taken"] = max(0, self.before - free)
        return found

    def drop(self, _: Any) -> None:
        """Let go of the row's memory."""
        self.case = None
        gc.collect()
        with contextlib.suppress(Exception):
            self.inside.close()
        if self.lib is not None:
            self.lib.free()


# In front of them ---------------------------------------------------------------------------------

def compare(part: Part, found: Sequence[Any], expected: Sequence[Any]) -> tuple[float, str]:
    """(the largest relative error, in what the results differ or "")."""
    if len(found) != len(expected):
        return float("nan"), f"{len(found)} results, and not {len(expected)}"
    steps = part.row.suite == "steps"
    allowed = (LOSS_ERRORS if steps else ERRORS)[part.precision] * part.row.tolerance
    worst = 0.0
    for i, (a, b) in enumerate(zip(found, expected)):
        if isinstance(a, float):
            error, here = abs(a - b) / max(abs(b), 1e-6), allowed * (LATER if i >= SURE else 1)
            what = f"loss {i + 1} is {a:.6g}, and not {b:.6g}"
        else:
            if a[0] != b[0]:
                return float("nan"), f"result {i} has shape {a[0]}, and not {b[0]}"
            norm = max(float((b[1] ** 2).sum()) ** 0.5, 1e-6)
            error = float(((a[1] - b[1]) ** 2).sum()) ** 0.5 / norm
            error, here = max(error, abs(a[2] - b[2]) / max(b[2], 1e-6)), allowed
            what = f"result {i} is off by {error:.2g}; allowed is {allowed:.2g}"
        if not error <= here:                       # nor if it is NaN
            return error, what
        worst = max(worst, error)
    return worst, ""


def clocks() -> dict[str, float]:
    """What nvidia-smi says of the first GPU; {} without it. Nothing is ever set."""
    names = ("clocks.sm", "temperature.gpu", "power.draw")
    try:
        said = subprocess.run(["nvidia-smi", f"--query-gpu={','.join(names)}",
                               "--format=csv,noheader,nounits"], capture_output=True, text=True,
                              timeout=10, check=True).stdout.splitlines()[0]
        return dict(zip(("sm_mhz", "celsius", "watts"), map(float, said.split(","))))
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return {}


class Late(Exception):
    """The time of the whole run is over."""


class Pool:
    """The workers, started when a row first needs them."""

    def __init__(self, columns: Iterable[str], dry_run: bool, deadline: float) -> None:
        """``deadline``: of time.perf_counter, when everything ends."""
        self.columns, self.dry_run, self.deadline = list(columns), dry_run, deadline
        self.workers: dict[str, Worker] = {}
        self.known: dict[str, dict[str, Any]] = {}
        self.looked: tuple[float, dict[str, float]] = -LOOK, {}

    def ask(self, column: str, what: str, argument: Any = None) -> Any:
        """Failed says why a column can't; Late that the run is over."""
        worker = self.workers.get(column)
        if worker is None or not worker.process.is_alive():
            worker = self.workers[column] = Worker(Server, column, self.dry_run)
            if what != "facts":
                self.ask(column, "facts")
        left = self.deadline - time.perf_counter()
        if left <= 0:
            raise Late
        limit = LIMITS.get(column, LIMIT)
        try:
            return worker.ask(what, argument, min(limit, left))
        except Slow:
            if left < limit:
                raise Late from None
            raise

    def facts(self, column: str) -> dict[str, Any]:
        """The column's version and device, or {"missing": why}."""
        if column not in self.known:
            try:
                self.known[column] = self.ask(column, "facts")
            except Failed as e:
                self.known[column] = {"missing": str(e)}
        return self.known[column]

    def clocks(self) -> dict[str, float]:
        """Now, or a moment ago: asking takes a while."""
        now = time.perf_counter()
        if now - self.looked[0] >= LOOK:
            self.looked = now, clocks()
        return self.looked[1]

    def there(self, column: str) -> bool:
        return "missing" not in self.facts(column)

    def close(self) -> None:
        for worker in self.workers.values():
            worker.close()
        self.workers = {}

    # A row ----------------------------------------------------------------------------------------

    def measure(self, part: Part, columns: Sequence[str]) -> list[dict[str, Any]]:
        """A line for each of the columns, which are there."""
        lines: dict[str, dict[str, Any]] = {c: {**part.names(), "column": c} for c in columns}
        expected, whose = self.reference(part)
        alone: list[str] = []
        ready = []
        for column in columns:
            try:
                expected, whose = self.prepare(part, column, lines[column], expected, whose)
                if lines[column]["status"] == "ok":
                    ready.append(column)
            except Failed as e:
                if "memory" in str(e).lower() and len(columns) > 1:
                    alone.append(column)
                else:
                    lines[column].update(status="error", why=str(e))
        self.turns(ready, lines)
        for column in alone:                        # once the others have given back their memory
            try:
                self.prepare(part, column, lines[column], expected, whose)
                if lines[column]["status"] == "ok":
                    lines[column]["note"] = "measured alone: no memory for it beside the others"
                    self.turns([column], lines)
            except Failed as e:
                lines[column].update(status="error", why=str(e))
        return [lines[c] for c in columns]

    def reference(self, part: Part) -> tuple[Any, str]:
        """What the results should be, in float64; None if that can't be had."""
        if not self.there(REFERENCE):
            return None, ""
        try:
            made = self.ask(REFERENCE, "make", part.key)
            self.ask(REFERENCE, "drop")
        except Failed:
            return None, ""
        return made.get("results"), f"{self.facts(REFERENCE)['library']}, float64"

    def prepare(self, part: Part, column: str, line: dict[str, Any], expected: Any, whose: str
                ) -> tuple[Any, str]:
        """Make a column's case and compare its results; returns what the next are compared with."""
        line["clocks"] = self.clocks()
        made = self.ask(column, "make", part.key)
        if "unsupported" in made:
            line.update(status="unsupported", why=made["unsupported"])
            return expected, whose
        error, said = (0.0, "") if expected is None else compare(part, made["results"], expected)
        line.update(status="FAIL" if said else "ok", error=error, compared_with=whose,
                    work=made["work"], make_seconds=round(made["seconds"], 2))
        if said:
            line["why"] = f"{said} ({whose})"
            self.ask(column, "drop")
        elif made["note"]:                          # right, but not what the column is called
            line.update(status="unsupported", why=made["note"])
            self.ask(column, "drop")
        if expected is None:
            line["note"] = "there was no reference to compare it with"
            return made["results"], self.facts(column)["library"]
        return expected, whose

    def turns(self, columns: list[str], lines: dict[str, dict[str, Any]]) -> None:
        """Time the columns in turns, ABBA; then what slows them down; then let go of all."""
        times: dict[str, list[float]] = {c: [] for c in columns}
        loops: dict[str, int] = {}

        def attempt(column: str, what: str, argument: Any = None) -> Any:
            if lines[column]["status"] != "ok":
                return None
            try:
                return self.ask(column, what, argument)
            except Failed as e:
                lines[column].update(status="error", why=str(e))
                return None

        for column in columns:
            loops[column] = attempt(column, "warm")
        for i in range(0 if self.dry_run else ROUNDS):
            for column in columns if i % 2 == 0 else reversed(columns):
                times[column] += attempt(column, "time", SAMPLES) or []
        for column in columns:
            line = lines[column]
            line.update(attempt(column, "rest") or {})
            if line["status"] == "ok":
                line["clock"] = "host" if column == "jax" else "events"
                if self.dry_run:                    # nothing in it may pass for a measurement
                    line["dry_run"] = True
                else:
                    line.update(ms=percentiles(times[column]), loops=loops[column],
                                samples=len(times[column]))
        for column in columns:
            lines[column]["clocks_after"] = self.clocks()
            with contextlib.suppress(Failed):
                self.ask(column, "drop")
