"""Text to learn from: a file, or the language reference that Python brings along."""
from __future__ import annotations

import hashlib
import importlib
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from program import DataError

UNKNOWN, NEWLINE = "<unk>", "<eol>"
# A word with its apostrophes, a number, or a run of the same sign, as === and ... are.
WORD = re.compile(r"[^\W\d]\w*(?:[’'][^\W\d_]+)*|\d[\w.]*\b|([^\w\s])\1*")
OPENING, CLOSING = "([{“‘", ".,:;!?)]}”’"


@dataclass
class Text:
    """A text and its name; ``checksum`` tells a resumed run whether it is still the same."""

    title: str
    content: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.content.encode()).hexdigest()

    def shortened(self, most: int) -> Text:
        """The first ``most`` characters only."""
        return Text(self.title, self.content[:most])


def read(path: Path | None, least: int) -> Text:
    """The text of a file in UTF-8, of ``least`` characters; without one, Python's reference."""
    if path is None:
        return python_reference()
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise DataError(f"--text {path} can't be read as UTF-8: {problem}") from None
    if len(content) < least:
        raise DataError(f"--text {path} is too short: {len(content):,} characters, where this "
                        f"program needs {least:,}; give a longer one")
    return Text(path.name, content)


def python_reference() -> Text:
    """What ``help("topics")`` tells: half a million characters that lie in most Pythons."""
    try:
        topics = importlib.import_module("pydoc_data.topics").topics
    except ImportError:
        raise DataError("this Python came without pydoc_data, the language reference that is "
                        "learned from by default; give a file: --text FILE") from None
    return Text("Python's language reference", "\n\n".join(topics[key] for key in sorted(topics)))


class Characters:
    """The characters of a text, each with a number."""

    def __init__(self, symbols: str) -> None:
        self.symbols = symbols
        self.number = {symbol: i for i, symbol in enumerate(symbols)}

    @classmethod
    def of(cls, text: str) -> Characters:
        return cls("".join(sorted(set(text))))

    def __len__(self) -> int:
        return len(self.symbols)

    def encode(self, text: str) -> np.ndarray:
        return np.array([self.number[symbol] for symbol in text], np.int64)

    def decode(self, numbers: list[int]) -> str:
        return "".join(self.symbols[i] for i in numbers)


class Words:
    """Small-letter words, signs and ends of lines, each with a number; 0 is every rarer word."""

    def __init__(self, symbols: list[str]) -> None:
        self.symbols = symbols
        self.number = {symbol: i for i, symbol in enumerate(symbols)}

    @classmethod
    def of(cls, text: str, least: int) -> Words:
        """Those that occur ``least`` times, the commonest first, and ends of lines in any case."""
        counts = Counter(split(text))
        common = sorted((-n, word) for word, n in counts.items() if n >= least or word == NEWLINE)
        return cls([UNKNOWN, *(word for _, word in common)])

    def __len__(self) -> int:
        return len(self.symbols)

    def encode(self, text: str) -> np.ndarray:
        return np.array([self.number.get(word, 0) for word in split(text)], np.int64)

    def decode(self, numbers: list[int]) -> str:
        """The words with spaces between them where English has them."""
        text, glued, quoting = "", True, False
        for word in (self.symbols[i] for i in numbers):
            if word == NEWLINE:
                text, glued, quoting = text + "\n", True, False
                continue
            closes = word[0] in CLOSING or (word == '"' and quoting)
            text += word if glued or closes else f" {word}"
            quoting ^= word == '"'
            glued = word[-1] in OPENING or (word == '"' and quoting)
        return text


def split(text: str) -> list[str]:
    """Words, numbers and signs in small letters; an empty line is an end of line, others aren't.

    Spaces are lost, and the ends of lines within a paragraph, which say nothing.
    """
    paragraphs = re.split(r"\n\s*\n", text.lower())
    words = []
    for paragraph in paragraphs:
        words += [found[0] for found in WORD.finditer(paragraph.replace("\n", " "))]
        words.append(NEWLINE)
    return words


def indented(text: str) -> str:
    """A sample as it is printed among other lines."""
    return "".join(f"    {line}\n" for line in text.strip("\n").splitlines())
