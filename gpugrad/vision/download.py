"""Files from the web: resumed where they broke off, checked, and there whole or not at all."""
from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def check_integrity(path: Any, checksum: str | None = None) -> bool:
    """Whether the file is there, and has the checksum: MD5, or if of 64 digits SHA-256."""
    if not os.path.isfile(path) or checksum is None:
        return os.path.isfile(path)
    with open(path, "rb") as file:
        found = hashlib.new("sha256" if len(checksum) == 64 else "md5", usedforsecurity=False)
        while chunk := file.read(1 << 20):
            found.update(chunk)
    return found.hexdigest() == checksum


def fetch(urls: Sequence[str], path: Any, checksum: str | None = None) -> None:
    """Copy what the first of ``urls`` that works gives to the file ``path``.

    checksum: MD5 or SHA-256, in hex. What has come when a connection breaks stays in
    ``path``.part, and the next try asks for the rest only; not so without a checksum, which shows
    that the parts are of one file. RuntimeError if no URL works, with what was wrong with each.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    problems = []
    for url in urls:
        print(f"Downloading {url} to {path}", file=sys.stderr)
        again = True
        while again:
            had = part.stat().st_size if checksum and part.exists() else 0
            try:
                _append(url, part, had)
            except (OSError, http.client.HTTPException, ValueError) as problem:
                problems.append(f"  {url}: {problem}")
                again = bool(checksum) and part.exists() and part.stat().st_size > had
                continue
            if check_integrity(part, checksum):
                os.replace(part, path)
                return
            part.unlink()
            problems.append(f"  {url}: what came has not the checksum {checksum}, and was removed")
            again = had > 0             # what lay there before may have been wrong
    raise RuntimeError("\n".join([f"Error downloading {path.name}:", *problems]))


def _append(url: str, part: Path, had: int) -> None:
    """Add to ``part`` what it lacks of the file at ``url``; OSError if that breaks off."""
    headers = {"User-Agent": "gpugrad", **({"Range": f"bytes={had}-"} if had else {})}
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30)
    except urllib.error.HTTPError as problem:
        if problem.code == 416 and had:                   # nothing lies beyond what we have
            return
        raise
    rest = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(
        f"bytes {had}-")
    with answer, open(part, "ab" if rest else "wb") as file:
        start = file.tell()
        shutil.copyfileobj(answer, file)
        came, length = file.tell() - start, answer.headers["Content-Length"]
        if length is not None and came < int(length):
            raise ConnectionError(f"broke off after {came:,} of {int(length):,} bytes")


def written(path: Path, content: bytes) -> None:
    """A file that is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    os.replace(part, path)
