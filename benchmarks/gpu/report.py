"""What the book holds, as a page of Markdown and as JSON, and as lines of a terminal."""
from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

from gpu.libraries import COLUMNS
from gpu.rows import CONTIGUOUS, SUITES

OURS = ("gpugrad", "gpugrad-graph")
BASE = ("torch",)                       # PyTorch eager at its best: ratios are its time over ours
TITLES = {"ceilings": "Ceilings", "ops": "Operations", "steps": "Training steps"}
# Aims: the beginning of a family, the column, what PyTorch eager's time over it is to reach.
AIMS = {"LeNet": ("gpugrad-graph", 3.0), "MLP": ("gpugrad-graph", 3.0), "ResNet-18": ("", 1.2),
        "ResNet-50": ("", 1.0), "GPT-2": ("", 1.0)}
OF_COPY, OF_CONV = 0.85, 0.7            # of the bandwidth; of PyTorch's rate in 3x3 convolutions
BOUND_BY_MEMORY = ("pooling", "normalization", "pointwise", "softmax", "loss", "embedding",
                   "reduction", "optimizer")
DRY = "dry run"

Line = dict[str, Any]


def place(line: Line) -> tuple[str, ...]:
    return tuple(line[k] for k in ("suite", "family", "name", "precision", "layout"))


def median(line: Line | None) -> float | None:
    """Milliseconds, if it was right and was timed."""
    return line["ms"]["median"] if line and line["status"] == "ok" and "ms" in line else None


# Ceilings, floors -------------------------------------------------------------------------------

def ceilings(lines: Iterable[Line]) -> dict[str, float]:
    """Bytes a second of a copy, and FLOP a second by precision: the best of all columns."""
    best: dict[str, float] = {}
    for line in lines:
        ms = median(line)
        if line["suite"] != "ceilings" or not ms or line["family"] == "launch":
            continue
        flop, nbytes, _ = line["work"][0]
        name = "copy" if line["family"] == "copy" else line["precision"]
        rate = (nbytes if name == "copy" else flop) / ms * 1e3
        best[name] = max(best.get(name, 0.0), rate)
    return best


def floor(line: Line, best: dict[str, float]) -> float | None:
    """Milliseconds that the counted work takes at the ceilings; None where they aren't known."""
    precision: str = line["precision"].replace("amp", "bfloat16")
    if not line.get("work") or "copy" not in best:
        return None
    total = 0.0
    for flop, nbytes, times in line["work"]:
        if flop and precision not in best:
            return None
        total += times * max(flop / best.get(precision, math.inf), nbytes / best["copy"])
    return 1e3 * total or None


# Ratios -----------------------------------------------------------------------------------------

def bases(lines: Iterable[Line]) -> dict[tuple[str, ...], float]:
    """PyTorch eager's best time of each row and precision, over the memory formats."""
    best: dict[tuple[str, ...], float] = {}
    for line in lines:
        ms = median(line)
        if ms and line["column"] in BASE:
            key = place(line)[:-1]
            best[key] = min(best.get(key, math.inf), ms)
    return best


def ratio(line: Line, base: dict[tuple[str, ...], float]) -> float | None:
    """PyTorch eager's time over this one's."""
    ms = median(line)
    return base[place(line)[:-1]] / ms if ms and place(line)[:-1] in base else None


def mean(values: list[float]) -> float:
    """The geometric one."""
    return math.exp(sum(map(math.log, values)) / len(values))


# Cells ------------------------------------------------------------------------------------------

def time_of(line: Line) -> str:
    """The time, or why there is none."""
    if line["status"] != "ok":
        return line["status"]
    if "ms" not in line:
        return DRY
    t = line["ms"]
    return f"{amount(t['median'])} ({amount(t['p10'])} to {amount(t['p90'])})"


def amount(ms: float) -> str:
    """With three digits, in microseconds below a millisecond."""
    value, unit = (1e3 * ms, "µs") if ms < 0.9995 else (ms, "ms")
    return (f"{value:#.3g}".rstrip(".") if value < 999.5 else f"{value:.0f}") + f" {unit}"


def size(nbytes: float | None) -> str:
    return "" if nbytes is None else f"{nbytes / 1e6:,.0f} MB" if nbytes >= 1e6 \
        else f"{nbytes / 1e3:,.1f} kB"


def rate_of(line: Line) -> str:
    """TFLOP/s of what multiplies, GB/s of the rest."""
    ms = median(line)
    if not ms or not line.get("work"):
        return ""
    flop, nbytes = (sum(part[i] * part[2] for part in line["work"]) for i in (0, 1))
    if flop:
        return f"{flop / ms / 1e9:,.1f} TFLOP/s"
    return f"{nbytes / ms / 1e6:,.0f} GB/s" if nbytes else ""


def cells(line: Line, best: dict[str, float], base: dict[tuple[str, ...], float]) -> list[str]:
    """A line of the tables."""
    ms, least, over = median(line), floor(line, best), ratio(line, base)
    name = f"{line['name']}, {line['precision']}" + \
        f", {line['layout'].replace('_', ' ')}" * (line["layout"] != CONTIGUOUS)
    return [name, COLUMNS[line["column"]], time_of(line),
            "" if over is None else f"{over:.2f}",
            "" if least is None else amount(least) if ms else "",
            f"{least / ms:.0%}" if least and ms else "", rate_of(line),
            f"{line['host_us']:.1f}" if "host_us" in line and ms else "",
            size(line.get("peak")), size(line.get("taken")),
            f"{line['error']:.1g}" if line.get("error") is not None else ""]


HEADER = ["", "", "time (p10 to p90)", "torch / it", "floor", "of the floor", "rate",
          "host, µs a call", "peak memory", "taken of the device", "error"]


def table(header: list[str], rows: Iterable[list[str]]) -> Iterator[str]:
    yield "| " + " | ".join(header) + " |"
    yield "|---" * len(header) + "|"
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def terminal(line: Line, best: dict[str, float], base: dict[tuple[str, ...], float]) -> str:
    """A line while it is measured."""
    name, column, time, over, _, share, rate, *_ = cells(line, best, base)
    text = f"{name[:60]:60} {column:27} {time:34} {over:>6} {share:>5} {rate:>16}".rstrip()
    return text + (f"\n    {line['why']}" if "why" in line else "")


# Aims -------------------------------------------------------------------------------------------

def judged(lines: list[Line]) -> Iterator[tuple[str, str, float | None, float]]:
    """(what, precision, found or None, aim) for each aim and precision that was measured."""
    base, best = bases(lines), ceilings(lines)
    found: dict[tuple[str, str], float] = {}
    for line in lines:
        over = ratio(line, base)
        if over is None or line["column"] not in OURS:
            continue
        for family, (column, _) in AIMS.items():
            if line["suite"] == "steps" and line["family"].startswith(family) \
                    and column in ("", line["column"]):
                key = line["name"], line["precision"]
                found[key] = max(found.get(key, 0.0), over)
        if line["suite"] == "ops" and line["family"] == "conv" and " 3x3 " in line["name"]:
            key = f"conv {line['name']}", line["precision"]
            found[key] = max(found.get(key, 0.0), over)
    for (name, precision), value in found.items():
        aim = next((a for family, (_, a) in AIMS.items() if name.startswith(family)), OF_CONV)
        yield name, precision, value, aim
    for line in lines:
        ms, least = median(line), floor(line, best)
        # Below 10 us the launch decides, and not memory.
        if ms and least and least > 0.01 and line["column"] == "gpugrad" \
                and line["suite"] == "ops" and line["family"] in BOUND_BY_MEMORY:
            where = line["name"] + f", {line['layout']}" * (line["layout"] != CONTIGUOUS)
            yield f"{where}: share of the copy", line["precision"], least / ms, OF_COPY


def verdicts(lines: list[Line]) -> Iterator[str]:
    """Which aims are met."""
    rows = list(judged(lines))
    if rows:
        yield f"{sum(v >= a for _, _, v, a in rows if v)} of {len(rows)} aims are met."
    for name, precision, value, aim in rows:
        yield (f"  {name}, {precision}: {value:.2f}, aim {aim:g}"
               + (" met" if value and value >= aim else " NOT met"))


# The page ---------------------------------------------------------------------------------------

def summary(lines: list[Line]) -> Iterator[list[str]]:
    """Geometric means of PyTorch eager's time over ours: family, precision, how many, by column."""
    base = bases(lines)
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    for line in lines:
        over = ratio(line, base)
        if over and line["column"] not in BASE and line["suite"] != "ceilings":
            found.setdefault((line["family"], line["precision"]), {}).setdefault(
                line["column"], []).append(over)
    for (family, precision), columns in found.items():
        yield [family, precision, *[
            f"{mean(columns[c]):.2f} of {len(columns[c])}" if c in columns else ""
            for c in COLUMNS if c not in BASE]]


def markdown(heads: list[dict[str, Any]], lines: list[Line]) -> str:
    """All of it: the machine, what is missing, the aims, the tables."""
    head = heads[-1]
    dry = head["dry_run"]
    best, base = ceilings(lines), bases(lines)
    page = [f"# {'A dry run' if dry else head['device']}, {head['date']}", "",
            "; ".join(f"{COLUMNS[c]}: {text}" for c, text in head["versions"].items()) + ".", ""]
    if head.get("details"):
        page += [", ".join(f"{k} {v}" for k, v in head["details"].items()) + ".", ""]
    page += ["Commands: " + ", ".join(f"`{h['command']}`" for h in heads) + ".", ""]
    if head["missing"]:
        page += ["Not measured: " + "; ".join(
            f"{COLUMNS[c]} ({why})" for c, why in head["missing"].items()) + ".", ""]
    if dry:
        page += ["**A dry run, on small sizes and without a GPU: it shows that the program works. "
                 "It has no times.**", ""]
    else:
        page += ["Medians. \"torch / it\" is the time of PyTorch eager, tuned, in its better "
                 "memory format, over this one: above 1 this one is faster. The floor is the "
                 "counted work at the ceilings of this page. Rows that differ from the "
                 "reference are FAIL, and have no time. Sets of inputs take turns, so that none "
                 "is in L2.", ""]
    mixed = len({line["of"] for line in lines if line["column"] in OURS + BASE}) > 1
    if mixed:
        page += ["The rows are of several runs.", ""]
    if said := list(verdicts(lines)):
        page += ["## Aims", "", "```text", *said, "```", ""]
    if rows := list(summary(lines)):
        page += ["## Geometric means of torch / it", "", *table(
            ["family", "precision", *[COLUMNS[c] for c in COLUMNS if c not in BASE]], rows), ""]
    for suite in SUITES:
        some = [line for line in lines if line["suite"] == suite]
        if not some:
            continue
        page += [f"## {TITLES[suite]}", ""]
        for family in dict.fromkeys(line["family"] for line in some):
            of_it = [line for line in some if line["family"] == family]
            of_it.sort(key=lambda line: (place(line), list(COLUMNS).index(line["column"])))
            page += [f"### {family}", "", *table(HEADER, [cells(li, best, base) for li in of_it]),
                     ""]
            page += [f"- {li['name']}, {li['precision']}, {COLUMNS[li['column']]}: "
                     f"{li.get('why') or li['note']}" for li in of_it
                     if "why" in li or li.get("note")]
            if page[-1]:
                page.append("")
    return "\n".join(page).rstrip() + "\n"


