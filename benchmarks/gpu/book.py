"""The book: lines of JSON, written as they come, so that a run that was cut off can go on."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

KEY = ("suite", "family", "name", "precision", "layout", "column")


class Book:
    """A file of lines: heads of runs ({"run": number, ...}), rows ({"of": number, ...}), and what
    was checked ({"check": name, ...}). Without a path it is in memory alone."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.heads: list[dict[str, Any]] = []
        self.lines: list[dict[str, Any]] = []
        self.checks: list[dict[str, Any]] = []
        text = path.read_text(encoding="utf-8") if path and path.exists() else ""
        for line in text.splitlines():
            try:
                found = json.loads(line)
            except json.JSONDecodeError:            # a run was killed while it wrote this
                continue
            (self.heads if "run" in found else self.checks if "check" in found
             else self.lines).append(found)
        self._cut = bool(text) and not text.endswith("\n")

    def begin(self, head: dict[str, Any]) -> None:
        """A run begins; the rows that follow are of it."""
        self.heads.append({"run": len(self.heads), **head})
        self._write(self.heads[-1])

    def add(self, line: dict[str, Any]) -> None:
        """A row that was measured."""
        self.lines.append({"of": self.heads[-1]["run"], **line})
        self._write(self.lines[-1])

    def check(self, found: dict[str, Any]) -> None:
        """What a check found."""
        self.checks.append(found)
        self._write(found)

    def _write(self, found: dict[str, Any]) -> None:
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write("\n" * self._cut + json.dumps(found) + "\n")
            file.flush()
        self._cut = False

    def latest(self, dry_run: bool, device: str | None = None) -> dict[tuple[str, ...],
                                                                     dict[str, Any]]:
        """The newest line of each row and column, of runs that were dry or weren't."""
        runs = {h["run"]: h for h in self.heads}
        return {tuple(line[k] for k in KEY): line for line in self.lines
                if bool(runs[line["of"]]["dry_run"]) == dry_run
                and device in (None, runs[line["of"]].get("device"))}

    def done(self, dry_run: bool, device: str, libraries: dict[str, str], retry: bool
             ) -> set[tuple[str, ...]]:
        """Rows and columns that need not be measured again, with these versions on this device."""
        return {key for key, line in self.latest(dry_run, device).items()
                if line.get("library") == libraries.get(line["column"])
                and not (retry and line["status"] != "ok")}
