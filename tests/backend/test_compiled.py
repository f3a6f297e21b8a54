"""The compiled helper: built, cached, shared by threads and processes; and never required."""
from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpugrad as torch
from gpugrad.backend import compiled, kernel_files
from gpugrad.backend import threads as blas_threads

KERNELS = Path(__file__).parents[2] / "kernels" / "cpu"

# Each element by a piece of work of its own, in memory of its own.
SOURCE = """
#include "array.h"
#include "threads.h"
static void one(void *context, intptr_t i) {
    const Array **a = context;
    float *mine = scratch(0, 100 * i + 1);
    mine[0] = mine[100 * i] = 2;
    reals(a[1])[i] = mine[0] * reals(a[0])[i];
}
KERNEL twice(const Array *x, const Array *y) {
    const Array *a[] = {x, y};
    scratch(0, 5000000)[0] = 0;
    share(one, a, size(x), 1 << 20);
}
KERNEL listed(const List *arrays, Array *found) { indices(found)[0] = arrays->n == 2; }
"""

needs_compiler = pytest.mark.skipif(os.name != "posix" or compiled.compiler() is None,
                                    reason="there is no C compiler")


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], Any]:
    """A helper of few kernels, not built yet, with a cache of its own: find it anew."""
    source = tmp_path / "kernels" / "cpu"
    source.mkdir(parents=True)
    for name in ("array.h", "threads.h", "threads.c"):
        shutil.copy(KERNELS / name, source)
    (source / "twice.c").write_text(SOURCE)
    monkeypatch.setattr(kernel_files, "place", lambda: str(tmp_path / "kernels"))
    monkeypatch.setattr(compiled, "_found", [])
    monkeypatch.setattr(compiled, "why_not", [""])
    monkeypatch.setenv("GPUGRAD_CPU_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("GPUGRAD_CPU_KERNELS", "1")

    def find() -> Any:
        compiled._found.clear()
        compiled.why_not[0] = ""
        return compiled.library()

    return find


def twice(library: Any, n: int = 1000) -> None:
    x, y = np.arange(n, dtype=np.float32), np.full(n, np.nan, np.float32)
    library.twice(x, y)
    np.testing.assert_array_equal(y, 2 * x)


@needs_compiler
def test_it_is_built_once_and_found_again(fresh: Any, tmp_path: Path,
                                          monkeypatch: pytest.MonkeyPatch) -> None:
    library = fresh()
    assert library is not None, compiled.why_not
    twice(library)
    [built] = (tmp_path / "cache").iterdir()         # and nothing of the work is left
    assert library.path == str(built)
    monkeypatch.setattr(subprocess, "Popen", None)   # nothing may be compiled any more
    assert fresh().path == library.path


@needs_compiler
def test_other_sources_are_another_library(fresh: Any, tmp_path: Path) -> None:
    before = fresh().path
    (tmp_path / "kernels/cpu/twice.c").write_text(SOURCE + "\n// other\n")
    assert fresh().path != before and len(list((tmp_path / "cache").iterdir())) == 2


@needs_compiler
def test_two_processes_build_at_once(fresh: Any, tmp_path: Path) -> None:
    code = ("import sys; from gpugrad.backend import compiled, kernel_files\n"
            "kernel_files.place = lambda: sys.argv[1]\n"
            "print(compiled.library().path)")
    jobs = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "kernels")],
                             cwd=KERNELS.parents[1], stdout=subprocess.PIPE, text=True)
            for _ in range(3)]
    said = {job.communicate(timeout=100)[0].strip() for job in jobs}
    [built] = (tmp_path / "cache").iterdir()
    assert said == {str(built)}


def test_it_can_be_switched_off(fresh: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPUGRAD_CPU_KERNELS", "0")
    assert fresh() is None and "GPUGRAD_CPU_KERNELS=0" in compiled.why_not[0]
    x = torch.ones(2, 3, 8, 8)
    assert torch.nn.functional.conv2d(x, torch.ones(4, 3, 3, 3))[0, 0, 0, 0] == 27
    assert torch.nn.functional.max_pool2d(x, 2).shape == (2, 3, 4, 4)


def test_without_a_compiler(fresh: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    assert fresh() is None and "no C compiler" in compiled.why_not[0]
    monkeypatch.setenv("CC", "no-such-compiler -O2")
    assert fresh() is None and "no C compiler" in compiled.why_not[0]


@needs_compiler
def test_a_compiler_that_fails(fresh: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho this compiler is out of order >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CC", str(broken))
    assert fresh() is None and "this compiler is out of order" in compiled.why_not[0]
    assert not list((tmp_path / "cache").iterdir())
    # One that says it succeeded but made nothing that can be loaded
    broken.write_text('#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done; echo text > "$2"\n')
    assert fresh() is None and "can't be loaded" in compiled.why_not[0]


@needs_compiler
def test_a_cache_that_cannot_be_written(fresh: Any, tmp_path: Path,
                                        monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GPUGRAD_CPU_CACHE", str(tmp_path / "file" / "cache"))
    assert fresh() is None and "GPUGRAD_CPU_CACHE" in compiled.why_not[0]


@needs_compiler
@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_threads(fresh: Any, n: int) -> None:
    library = fresh()
    library.set_threads(n)
    for size in (1, 2, 5, 1000, 1, 100000):
        twice(library, size)


@needs_compiler
def test_set_num_threads_reaches_it_without_building_it(fresh: Any, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert not compiled._found and not (tmp_path / "cache").exists()
        library = fresh()
        told: list[int] = []
        library.set_threads = told.append
        torch.set_num_threads(1)
        assert told == [1] and blas_threads.get() == 1
    finally:
        torch.set_num_threads(before)


@needs_compiler
def test_two_python_threads_at_once(fresh: Any) -> None:
    library, failed = fresh(), []
    library.set_threads(2)

    def work() -> None:
        try:
            for _ in range(100):
                twice(library, 3000)
        except BaseException as e:
            failed.append(e)

    several = [threading.Thread(target=work) for _ in range(3)]
    for t in several:
        t.start()
    for t in several:
        t.join(60)
    assert not failed and not any(t.is_alive() for t in several)


def in_a_child(library: Any, answers: Any) -> None:
    for _ in range(20):
        twice(library, 5000)
    answers.put("well")


@needs_compiler
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own(fresh: Any) -> None:
    library = fresh()
    library.set_threads(2)
    twice(library, 5000)
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    child = context.Process(target=in_a_child, args=(library, answers))
    child.start()
    assert answers.get(timeout=60) == "well"
    child.join(60)
    twice(library, 5000)


@needs_compiler
def test_env_says_which_is_in_use(fresh: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from gpugrad.command import environment

    facts = environment.collected()["cpu_kernels"]
    assert facts["in_use"] and facts["why_not"] is None and facts["compiler"]
    assert Path(facts["library"]).exists()
    compiled._found.clear()
    monkeypatch.setenv("GPUGRAD_CPU_KERNELS", "0")
    facts = environment.collected()["cpu_kernels"]
    assert not facts["in_use"] and "GPUGRAD_CPU_KERNELS=0" in facts["why_not"]
