"""torch.hub: models from a folder with a hubconf.py, and files from the web, kept in a folder."""
from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.error import HTTPError as HTTPError
from urllib.error import URLError as URLError
from urllib.parse import urlparse as urlparse
from urllib.request import Request as Request
from urllib.request import urlopen as urlopen

ENV_TORCH_HOME, ENV_XDG_CACHE_HOME = "TORCH_HOME", "XDG_CACHE_HOME"
DEFAULT_CACHE_DIR = "~/.cache"
MODULE_HUBCONF = "hubconf.py"
VAR_DEPENDENCY = "dependencies"
READ_DATA_CHUNK = 128 * 1024
HASH_REGEX = re.compile(r"-([a-f0-9]*)\.")      # resnet18-bfd8deac.pth

_dir: list[str | None] = [None]


def _get_torch_home() -> str:
    cache = os.getenv(ENV_XDG_CACHE_HOME, DEFAULT_CACHE_DIR)
    return os.path.expanduser(os.getenv(ENV_TORCH_HOME, os.path.join(cache, "torch")))


def get_dir() -> str:
    """Where files are kept: set_dir's folder, else $TORCH_HOME/hub, else ~/.cache/torch/hub."""
    return _dir[0] if _dir[0] is not None else os.path.join(_get_torch_home(), "hub")


def set_dir(d: str | os.PathLike[str]) -> None:
    """Keep files in this folder."""
    _dir[0] = os.path.expanduser(d)


# Models ------------------------------------------------------------------------------------------

def load(repo_or_dir: str, model: str, *args: Any, source: str = "github",
         trust_repo: Any = "check", force_reload: bool = False, verbose: bool = True,
         skip_validation: bool = False, **kwargs: Any) -> Any:
    """What the function ``model`` of the folder's hubconf.py returns; source must be "local"."""
    return getattr(_hubconf(repo_or_dir, source, model), model)(*args, **kwargs)


def list(github: str, force_reload: bool = False, skip_validation: bool = False,
         trust_repo: Any = "check", verbose: bool = True, source: str = "github") -> Any:
    """The names of the functions in a folder's hubconf.py; source must be "local"."""
    module = _hubconf(github, source)
    return [name for name, value in vars(module).items()
            if callable(value) and not name.startswith("_")]


def help(github: str, model: str, force_reload: bool = False, skip_validation: bool = False,
         trust_repo: Any = "check", source: str = "github") -> str | None:
    """The docstring of a function in a folder's hubconf.py; source must be "local"."""
    doc: str | None = getattr(_hubconf(github, source, model), model).__doc__
    return doc


def _hubconf(folder: str, source: str, model: str | None = None) -> Any:
    """The module of the folder's hubconf.py, which must have the function."""
    source = source.lower()
    if source not in ("github", "local"):
        raise ValueError(f'Unknown source: "{source}". Allowed values: "github" | "local".')
    if source == "github":
        raise NotImplementedError("torch.hub does not load code from GitHub: clone the repository "
                                  'yourself, and pass its folder and source="local"')
    path = Path(folder) / MODULE_HUBCONF
    if not path.exists():
        raise FileNotFoundError(f"torch.hub: there is no {MODULE_HUBCONF} in {folder!r}")
    spec: Any = importlib.util.spec_from_file_location(MODULE_HUBCONF[:-3], path)
    module = importlib.util.module_from_spec(spec)
    with _on_path(str(folder)):
        spec.loader.exec_module(module)
    missing = [name for name in getattr(module, VAR_DEPENDENCY, None) or []
               if importlib.util.find_spec(name) is None]
    if missing:
        raise RuntimeError(f"Missing dependencies: {', '.join(missing)}")
    if model is not None and not callable(getattr(module, model, None)):
        raise RuntimeError(f"Cannot find callable {model} in hubconf")
    return module


@contextlib.contextmanager
def _on_path(folder: str) -> Any:
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


# Files -------------------------------------------------------------------------------------------

def download_url_to_file(url: str, dst: str, hash_prefix: str | None = None,
                         progress: bool = True) -> None:
    """Copy what is at ``url`` to the file ``dst``, which is there whole or not at all.

    hash_prefix: RuntimeError unless the SHA-256 begins with it.
    """
    dst = os.path.expanduser(dst)
    found = hashlib.sha256()
    partial = tempfile.NamedTemporaryFile(
        delete=False, dir=os.path.dirname(dst) or ".", suffix=".partial")
    try:
        with partial, urlopen(Request(url, headers={"User-Agent": "torch.hub"})) as source:
            size = int(source.headers.get("Content-Length") or 0)
            done = 0
            while chunk := source.read(READ_DATA_CHUNK):
                partial.write(chunk)
                found.update(chunk)
                done += len(chunk)
                if progress:
                    share = f"{100 * done // size:3d} %" if size else f"{done} bytes"
                    print(f"\r{share} of {url}", end="", file=sys.stderr)
        if progress:
            print(file=sys.stderr)
        digest = found.hexdigest()
        if hash_prefix and not digest.startswith(hash_prefix):
            raise RuntimeError(f'invalid hash value (expected "{hash_prefix}", got "{digest}")')
        shutil.move(partial.name, dst)
    finally:
        if os.path.exists(partial.name):
            os.remove(partial.name)


def load_state_dict_from_url(url: str, model_dir: str | None = None, map_location: Any = None,
                             progress: bool = True, check_hash: bool = False,
                             file_name: str | None = None, weights_only: bool = False) -> Any:
    """torch.load of a file from the web, fetched once and kept in ``model_dir``.

    check_hash: the file's name must end in its hash, as in name-0123abcd.pth. Nothing in a
    file can run code, whatever weights_only says: see torch.load.
    """
    from gpugrad.serialization import load

    folder = os.path.join(get_dir(), "checkpoints") if model_dir is None else model_dir
    os.makedirs(folder, exist_ok=True)
    name = file_name if file_name is not None else os.path.basename(urlparse(url).path)
    path = os.path.join(folder, name)
    if not os.path.exists(path):
        if progress:
            print(f'Downloading: "{url}" to {path}', file=sys.stderr)
        match = HASH_REGEX.search(name) if check_hash else None
        download_url_to_file(url, path, match.group(1) if match else None, progress=progress)
    return load(path, map_location=map_location, weights_only=weights_only)
