"""What was measured, as lines of a terminal and as a page of Markdown."""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from cpu_suite.rows import COLUMNS, SECOND_CORE, THEMES
from measure import describe

NAME, CELL, RATIO = 54, 16, 17


def amount(value: float, unit: str) -> str:
    """Three digits, and a unit that suits them."""
    steps = [(1e-9, "ns"), (1e-6, "µs"), (1e-3, "ms"), (1.0, "s")] if unit == "s" else \
        [(1e3, "kB"), (1e6, "MB"), (1e9, "GB")]
    scale, name = next((s for s in reversed(steps) if value >= 0.9995 * s[0]), steps[0])
    return f"{value / scale:#.3g}".rstrip(".") + f" {name}" if value < 999.5 * scale else \
        f"{value / scale:.0f} {name}"


def spread(value: dict[str, float], unit: str) -> str:
    """A median with its spread in percent."""
    if not value["spread"]:
        return amount(value["median"], unit)
    return f"{amount(value['median'], unit)} ±{100 * value['spread'] / value['median']:.0f}%"


def ratio(value: dict[str, float]) -> str:
    return f"{value['median']:.2f} ± {value['spread']:.2f}"


def judged(row: dict[str, Any]) -> list[tuple[str, float | None, float]]:
    """The aims of a row: (column, ratio or None where there is none, aim)."""
    return [(column, row["ratios"].get(column, {}).get("median"), aim)
            for column, aim in row["aims"].items() if column in COLUMNS and row["ratios"]]


def verdict(found: float | None, aim: float) -> str:
    return "not measured" if found is None else "met" if found >= aim else "NOT met"


def aims(row: dict[str, Any]) -> str:
    """The aims of a row, each met or not."""
    return ", ".join([("" if column == "gpugrad" else COLUMNS[column] + " ")
                      + f"{aim:g} {verdict(found, aim)}" for column, found, aim in judged(row)])


def busy(facts: dict[str, Any]) -> str:
    """A warning, if other programs ran when the measurement began."""
    if facts.get("load", 0.0) < 0.7:
        return ""
    return (f"Other programs were running (load {facts['load']:.1f}): trust no number, least those "
            "of several threads.")


def columns(rows: Iterable[dict[str, Any]]) -> tuple[list[str], list[str], bool]:
    """The columns that occur, those with ratios, and whether what gpugrad adds is known."""
    rows = list(rows)
    values = [c for c in COLUMNS if any(c in row["values"] for row in rows)]
    ratios = [c for c in COLUMNS if any(c in row["ratios"] for row in rows)]
    return values, ratios, any("added" in row for row in rows)


# A terminal ---------------------------------------------------------------------------------------

def head(theme: str, threads: int, expected: list[str]) -> str:
    """Two lines above a theme's rows; ``expected``: the columns that its rows may have."""
    compared = [c for c in expected if c not in ("torch", "bare")] if "torch" in expected else []
    title = f"{THEMES[theme]}, {threads} thread{'s' * (threads > 1)}"
    return (f"\n{title}\n{'':{NAME}}" + "".join(f"{COLUMNS[c]:>{CELL}}" for c in expected)
            + "".join(f"{'torch / ' + short(c):>{RATIO}}" for c in compared)
            + f"{'added':>8}" * ("bare" in expected) + "  aim")


def short(column: str) -> str:
    return {"gpugrad": "gpugrad", "recorded": "step", "numpy": "NumPy"}[column]


def line(row: dict[str, Any], expected: list[str]) -> str:
    """One row, and lines for what went wrong."""
    cells = [spread(row["values"][c], row["unit"]) if c in row["values"] else "" for c in expected]
    compared = [c for c in expected if c not in ("torch", "bare")] if "torch" in expected else []
    ratios = [ratio(row["ratios"][c]) if c in row["ratios"] else "" for c in compared]
    added = (f"{row['added']:7.2f}x" if "added" in row else " " * 8) * ("bare" in expected)
    said = [f"    {COLUMNS[c]}: {text}" for c, text in row.get("errors", {}).items()]
    said += [f"    {COLUMNS['recorded']} {text}" for text in row.get("notes", [])]
    text = (f"{row['name']:{NAME}}" + "".join(f"{c:>{CELL}}" for c in cells)
            + "".join(f"{c:>{RATIO}}" for c in ratios) + added + f"  {aims(row)}")
    return "\n".join([text.rstrip(), *said])


def ending(rows: list[dict[str, Any]]) -> Iterator[str]:
    """How many aims are met, and which aren't; what failed."""
    all_aims = [(f"{where(row)}: {COLUMNS[column]}", found, aim)
                for row in rows for column, found, aim in judged(row)]
    all_aims += [(f"{name}: two threads over one", gains["gpugrad"], aim)
                 for name, gains, aim in second_core(rows)]
    open_ones = [a for a in all_aims if verdict(*a[1:]) != "met"]
    if all_aims:
        yield f"{len(all_aims) - len(open_ones)} of {len(all_aims)} aims are met."
    for name, found, aim in open_ones:
        yield f"  {name} {'not measured' if found is None else f'{found:.2f}'}, aim {aim:g}"
    failed = [f"  {where(row)}: {COLUMNS[column]}: {text}"
              for row in rows for column, text in row.get("errors", {}).items()]
    if failed:
        yield f"{len(failed)} failed:"
        yield from failed


def where(row: dict[str, Any]) -> str:
    return f"{row['theme']}/{row['name']}, {row['threads']} thread{'s' * (row['threads'] > 1)}"


def second_core(rows: list[dict[str, Any]]) -> list[tuple[str, dict[str, float], float]]:
    """(row, time with one thread over time with two by column, aim) of the steps."""
    by_threads = {(row["theme"], row["name"], row["threads"]): row for row in rows}
    found = []
    for (theme, name, threads), one in by_threads.items():
        two = by_threads.get((theme, name, 2))
        if threads == 1 and two and SECOND_CORE in one["aims"] and "gpugrad" in one["values"] \
                and "gpugrad" in two["values"]:
            gains = {c: one["values"][c]["median"] / two["values"][c]["median"]
                     for c in COLUMNS if c in one["values"] and c in two["values"]}
            found.append((f"{theme}/{name}", gains, one["aims"][SECOND_CORE]))
    return found


# A page -------------------------------------------------------------------------------------------

def table(header: list[str], rows: Iterable[list[str]]) -> Iterator[str]:
    yield "| " + " | ".join(header) + " |"
    yield "|---" * len(header) + "|"
    for cells in rows:
        yield "| " + " | ".join(cells) + " |"


def markdown(results: dict[str, Any]) -> str:
    """The page: the machine, the tables theme by theme, the aims that are met and aren't."""
    facts, rows = results["machine"], results["rows"]
    helper = "in use" if facts.get("helper") == "compiled" else facts.get("helper", "unknown")
    lines = ["# The CPU beside PyTorch", "", f"{describe(facts)}; compiled helper: {helper}.", "",
             f"`{results['command']}`", "",
             "Medians over the rounds, ± half the distance between the quartiles. A ratio is "
             "torch's time (or memory) over gpugrad's in the same round: above 1 gpugrad is ahead."]
    if said := busy(facts):
        lines += ["", f"**{said}**"]
    if results["quick"]:
        lines += ["", "**A quick run on small sizes (in brackets): no numbers to keep.**"]
    for theme, title in THEMES.items():
        some = sorted([r for r in rows if r["theme"] == theme],
                      key=lambda r: [x["name"] for x in rows].index(r["name"]))
        if not some:
            continue
        values, compared, added = columns(some)
        header = ["", "threads", *[COLUMNS[c] for c in values],
                  *[f"torch / {COLUMNS[c]}" for c in compared],
                  *["gpugrad adds, in NumPy calls"] * added, "aim"]
        cells = [[row["name"], str(row["threads"]),
                  *[spread(row["values"][c], row["unit"]) if c in row["values"] else ""
                    for c in values],
                  *[ratio(row["ratios"][c]) if c in row["ratios"] else "" for c in compared],
                  *[f"{row['added']:.2f}" if "added" in row else ""] * added,
                  aims(row)] for row in some]
        lines += ["", f"## {title}", "", *table(header, cells)]
        for row in some:
            for column, text in row.get("errors", {}).items():
                lines += ["", f"{row['name']}, {COLUMNS[column]}: {text}"]
            for text in row.get("notes", []):
                lines += ["", f"{row['name']}, {COLUMNS['recorded']}: {text}"]
    if gains := second_core(rows):
        present = [c for c in COLUMNS if any(c in g for _, g, _ in gains)]
        lines += ["", "## Two threads", "", "Time with one thread over time with two.", "",
                  *table(["", *[COLUMNS[c] for c in present]],
                         [[name, *[f"{g[c]:.2f}" if c in g else "" for c in present]]
                          for name, g, _ in gains])]
    if ends := list(ending(rows)):
        lines += ["", "## Aims", "", "```text", *ends, "```"]
    return "\n".join([*lines, ""])
