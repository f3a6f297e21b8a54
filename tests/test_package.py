"""The wheel: small, pure Python, with its kernels, its type marker, and nothing of the tests."""
from __future__ import annotations

import ast
import base64
import hashlib
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

pytest.importorskip("hatchling", reason="builds the wheel with hatchling")


def built(folder, out):
    """The wheel of the pyproject.toml in a folder."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100)
    assert run.returncode == 0, run.stdout + run.stderr
    [path] = out.iterdir()
    return path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return built(ROOT, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def simulator_wheel(tmp_path_factory):
    return built(ROOT / "gpugrad/cudasim", tmp_path_factory.mktemp("dist_cudasim"))


def names_in(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_name_and_size(wheel):
    assert re.fullmatch(r"gpugrad-[\w.]+-py3-none-any\.whl", wheel.name)
    assert wheel.stat().st_size < 1_000_000


def test_only_comments_are_left_out(wheel):
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(names_in(wheel)):
            if name.endswith(".py"):
                packed, source = archive.read(name).decode(), (ROOT / name).read_text("utf-8")
                assert ast.dump(ast.parse(packed)) == ast.dump(ast.parse(source)), name
                assert packed.count("\n") == source.count("\n"), name
        listed = next(name for name in archive.namelist() if name.endswith("/RECORD"))
        for line in archive.read(listed).decode().splitlines():
            name, digest, size = line.rsplit(",", 2)
            if name != listed:
                content = archive.read(name)
                want = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode()
                assert (digest, size) == (f"sha256={want.rstrip('=')}", str(len(content)))
    assert archive.namelist()[-1] == listed


def test_contents(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        info = next(name for name in names if name.endswith(".dist-info/METADATA"))
        metadata = archive.read(info).decode()
    assert "gpugrad/py.typed" in names
    kernels = {f"gpugrad/_kernels/{path.name}" for path in (ROOT / "kernels").iterdir()
               if path.suffix in (".cu", ".cuh")}
    assert kernels and kernels <= names
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "gpugrad").rglob("*.py")}
    simulator = {name for name in sources if name.startswith("gpugrad/cudasim/")}
    assert sources - simulator <= names and not simulator & names
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    strays = {name for name in names if not re.match(r"gpugrad/|gpugrad-[\w.]+\.dist-info/", name)}
    assert not strays and not any("__pycache__" in name for name in names)

    needs = re.findall(r"^Requires-Dist: (.*)$", metadata, re.M)
    assert [need for need in needs if "extra ==" not in need] == ["numpy>=2.0"]
    extras = set(re.findall(r"^Provides-Extra: (.*)$", metadata, re.M))
    assert {"cuda12", "cuda13", "cuda12x", "cuda13x", "examples", "sim", "test", "dev"} <= extras
    assert not [need for need in needs if need.startswith("cupy") and "<" in need]


def test_an_installed_wheel_works_away_from_the_checkout(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:       # a pure wheel is what lands in site-packages
        archive.extractall(tmp_path)
    code = ("import gpugrad as torch; from gpugrad.backend import kernels; "
            "print(torch.__file__); print(torch.ones(2, 3).sum().item()); "
            "print(kernels.folder()); print(sorted(kernels.sources()))")
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True,
                         env={**os.environ, "PYTHONPATH": str(tmp_path)}, timeout=100)
    assert run.returncode == 0, run.stderr
    where, total, folder, files = run.stdout.splitlines()
    assert Path(where).is_relative_to(tmp_path) and Path(folder).is_relative_to(tmp_path)
    assert total == "6.0"
    assert "im2col" in files and "pool" in files


def test_the_simulator_is_a_wheel_of_its_own(wheel, simulator_wheel):
    assert re.fullmatch(r"gpugrad_cudasim-[\w.]+-py3-none-any\.whl", simulator_wheel.name)
    assert simulator_wheel.name.split("-")[1] == wheel.name.split("-")[1]
    names = names_in(simulator_wheel)
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "gpugrad/cudasim").rglob("*")
             if path.is_file() and "__pycache__" not in path.parts
             and path.name not in ("pyproject.toml", ".gitignore")}
    assert "gpugrad/cudasim/api.json" in files
    assert files == {name for name in names if ".dist-info/" not in name}
    assert not names & names_in(wheel)


def test_without_the_simulator_s_wheel_its_name_is_said(wheel, simulator_wheel, tmp_path):
    code = ("import gpugrad as torch\n"
            "try:\n"
            "    torch.cuda.simulate()\n"
            "except RuntimeError as e:\n"
            "    print(e)\n"
            "else:\n"
            "    print(torch.cuda.is_available())\n")

    def run():
        return subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True,
                              text=True, env={**os.environ, "PYTHONPATH": str(tmp_path)},
                              timeout=100, check=True).stdout

    zipfile.ZipFile(wheel).extractall(tmp_path)
    assert "pip install gpugrad-cudasim" in run()
    zipfile.ZipFile(simulator_wheel).extractall(tmp_path)
    assert "pip install gpugrad-cudasim" not in run()
