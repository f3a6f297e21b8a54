"""DataLoader's workers: batches, seeds, errors, deaths, shared memory, nothing left behind."""
from __future__ import annotations

import gc
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

import gpugrad as torch
from gpugrad.backend import cuda as cuda_backend
from gpugrad.utils.data import (
    ConcatDataset,
    DataLoader,
    RandomSampler,
    Subset,
    TensorDataset,
    get_worker_info,
    prefetch,
    shared_memory,
)

sys.path.insert(0, str(Path(__file__).parent))

import loading
from loading import Rows, Shared, Workers

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="these start their workers by fork"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]
METHODS = ["fork", "thread"]
ALL = [*METHODS, "forkserver", "spawn"]


def load(dataset, batch_size=3, num_workers=2, context="fork", **kw):
    return DataLoader(dataset, batch_size, num_workers=num_workers,
                      multiprocessing_context=context, **kw)


@pytest.fixture(autouse=True)
def nothing_is_left():
    """After each test: no child process, no segment, no file descriptor more than before."""
    gc.collect()
    before, files = multiprocessing.active_children(), open_files()
    names = set(os.listdir("/dev/shm")) if os.path.isdir("/dev/shm") else set()
    yield
    gc.collect()
    assert [p for p in multiprocessing.active_children() if p not in before] == []
    if names or os.path.isdir("/dev/shm"):
        assert {n for n in os.listdir("/dev/shm") if "gpugrad" in n or "psm_" in n} <= names
    assert [f for f in open_files() - files if "gpugrad" in f] == []


def open_files():
    if not os.path.isdir("/proc/self/fd"):
        return set()
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.add(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:
            pass
    return found


def gone(pid, seconds=10.0):
    """Whether a process has ended, at the latest after some seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


# Batches ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("context", ALL)
def test_batches_and_their_workers(context):
    batches = list(load(Rows(12, 9000), 4, context=context))
    assert [y.tolist() for _, y in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    for x, y in batches:
        assert x.shape == (4, 9000) and (x == y[:, None]).all()
        x += 1                                              # it can be written to
    if context != "fork":
        return
    who = [tuple(int(v) for v in b) for b in load(Workers(), None)]
    assert [w[1] for w in who] == [0, 1] * 4 and {w[2] for w in who} == {2}
    assert len({w[0] for w in who}) == 2 and os.getpid() not in {w[0] for w in who}
    assert {w[4] for w in who} == {8} and {w[3] - w[1] for w in who} == {who[0][3]}
    assert get_worker_info() is None


@pytest.mark.parametrize("context", METHODS)
@pytest.mark.parametrize("kw", [
    {}, {"shuffle": True}, {"drop_last": True}, {"prefetch_factor": 1}, {"prefetch_factor": 7},
    {"num_workers": 1}, {"num_workers": 3}, {"sampler": [3, 1, 1, 0]},
], ids=str)
def test_the_same_batches_as_without_workers(context, kw):
    def run(**more):
        torch.manual_seed(3)
        loader = DataLoader(Rows(11), **({"batch_size": 4} | kw | more))
        return [[b[1].tolist() for b in loader] for _ in range(2)], torch.rand(2).tolist()
    one = run(num_workers=0, prefetch_factor=None)
    assert run(num_workers=kw.get("num_workers", 2), multiprocessing_context=context) == one


def test_other_ways_to_sample():
    assert [b[1].tolist() for b in load(Rows(), 1, batch_sampler=[[5, 1], [2]])] == [[5, 1], [2]]
    assert [int(y) for _, y in load(Rows(3), None)] == [0, 1, 2]
    data = TensorDataset(torch.arange(40000.0).reshape(10, 4000), torch.arange(10))
    for ds in (data, Subset(data, [-1, 3, 5]), ConcatDataset([data, data])):
        for a, b in zip(load(ds, 2), DataLoader(ds, 2), strict=True):
            assert torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) and a[0].dtype == b[0].dtype
    assert list(load([], 2)) == [] and len(load(Rows(), 5)) == 3
    it = iter(load(Rows(), 5))
    assert len(it) == 3 and iter(it) is it and len(list(it)) == 3
    for _ in range(2):
        with pytest.raises(StopIteration):
            next(it)


def test_out_of_order():
    def run(in_order):
        loader = load(Rows(6, deed=lambda i: time.sleep(0.3), at=0), 1, in_order=in_order)
        return [int(y) for _, y in loader]
    assert run(True) == list(range(6))
    late = run(False)
    assert sorted(late) == list(range(6)) and late[0] != 0


@pytest.mark.parametrize("context", METHODS)
def test_what_a_batch_may_hold(context):
    for _ in range(2):
        got = list(load(Rows(9), collate_fn=loading.odd_shapes, context=context))[-1]
        want = loading.odd_shapes([0] * 3)
        for name, b in want.items():
            a = got[name]
            if not isinstance(b, (torch.Tensor, np.ndarray)):
                assert a == b, name
                continue
            assert type(a) is type(b) and a.dtype == b.dtype and a.shape == b.shape, name
            assert (np.asarray(a.tolist()) == np.asarray(b.tolist())).all(), name
        assert got["t"].stride() == want["t"].stride() and got["leaf"].requires_grad
        assert got["leaf"].is_leaf and got["array"].flags.f_contiguous


def test_bfloat16_batches():
    got = next(iter(load([torch.ones(20000, dtype=torch.bfloat16)] * 2)))
    assert got.dtype is torch.bfloat16 and got.shape == (2, 20000) and (got == 1).all()


# Iterable datasets --------------------------------------------------------------------------------

@pytest.mark.parametrize("context", METHODS)
@pytest.mark.parametrize("persistent", [False, True])
def test_iterable_datasets(context, persistent):
    loader = load(Shared(), 2, context=context, persistent_workers=persistent)
    for _ in range(2):
        assert [b.tolist() for b in loader] == [[0, 2], [1, 3], [4, 6], [5, 7], [8, 10], [9]]
    # One of three workers has two batches more than another has.
    uneven = load(Shared(8), 1, 3, context=context, persistent_workers=persistent)
    for _ in range(2):
        assert [int(b) for b in uneven] == list(range(8))
    dropped = load(Shared(), 2, drop_last=True, context=context)
    assert [b.tolist() for b in dropped] == [[0, 2], [1, 3], [4, 6], [5, 7], [8, 10]]


def test_a_wrong_length_is_told():
    loader = load(Shared(6, length=4), 1)
    assert len(loader) == 4
    with pytest.warns(UserWarning, match="not properly configuring the IterableDataset replica"):
        assert len(list(loader)) == 6


# Seeds --------------------------------------------------------------------------------------------

def test_seeds():
    torch.manual_seed(0)
    seeds = [int(b[3]) for b in load(Workers(), None)]
    torch.manual_seed(0)
    base = int(torch.empty((), dtype=torch.int64).random_())
    assert seeds == [base, base + 1] * 4
    # Recorded from PyTorch: the seeds of a generator, and what workers draw from their generators.
    g = torch.Generator().manual_seed(7)
    assert [int(b[3]) for b in load(Workers(), None, generator=g)][:2] == SEEDS
    torch.manual_seed(5)
    drawn = [[float(v) for v in b] for b in load(loading.Drawn(), None)]
    for a, b in zip(drawn, DRAWN, strict=True):
        assert a == pytest.approx(b, abs=1e-7)


SEEDS = [1407639518939636932, 1407639518939636933]
DRAWN = [(0.97320599, 0.48524967, 0.71060067), (0.7347412, 0.0807273, 0.29051864),
         (0.09916815, 0.24756875, 0.34830594), (0.42109828, 0.92426453, 0.58571523),
         (0.16296807, 0.18914106, 0.6387555), (0.07324868, 0.4562796, 0.29352689)]


def test_worker_init_fn_comes_after_the_seeds():
    drawn = [float(b[2]) for b in load(loading.Drawn(), None, worker_init_fn=loading.init)]
    for i in range(2):
        g = torch.Generator().manual_seed(100 + i)
        assert drawn[i::2] == torch.rand(3, generator=g).tolist()


def test_generators_of_threads():
    class Drawn(Rows):
        def __getitem__(self, i):
            info = get_worker_info()
            rng = info.rng
            assert info.worker_method == "thread" and info.dataset is self
            return (rng.random_generator.random(), rng.numpy_generator.random(),
                    torch.rand((), generator=rng.torch_generator).item(), info.seed)

    def run():
        torch.manual_seed(5)
        return [[float(v) for v in b[:3]] + [int(b[3])]
                for b in load(Drawn(6), None, context="thread")]
    random.seed(1)
    first = run()
    assert run() == first and len({tuple(b) for b in first}) == 6
    assert random.random() == random.Random(1).random()         # the global ones are left alone
    assert first[0][2] == pytest.approx(torch.rand((), generator=torch.Generator().manual_seed(
        first[0][3])).item())


# Workers that persist -----------------------------------------------------------------------------

@pytest.mark.parametrize("context", METHODS)
def test_persistent_workers(context):
    torch.manual_seed(1)
    loader = load(Rows(12), 2, shuffle=True, persistent_workers=True, context=context)
    it = iter(loader)
    pids = it.pids
    orders = [[i for _, y in loader for i in y.tolist()] for _ in range(3)]
    assert iter(loader) is it and it.pids == pids
    assert all(sorted(o) == list(range(12)) for o in orders) and orders[0] != orders[1]
    next(iter(loader))                                          # a pass that is left
    again = [i for _, y in loader for i in y.tolist()]
    assert sorted(again) == list(range(12))
    del loader, it
    gc.collect()
    assert all(gone(pid) for pid in pids)


def test_a_persistent_worker_that_has_died_is_replaced():
    loader = load(Rows(), persistent_workers=True)
    pids = iter(loader).pids
    os.kill(pids[0], signal.SIGKILL)
    with pytest.raises(RuntimeError, match=rf"pid\(s\) {pids[0]}\) exited unexpectedly"):
        list(loader)
    assert len(list(loader)) == 4 and iter(loader).pids != pids


# Errors -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("context", ALL)
def test_an_error_tells_its_type_traceback_and_index(context):
    it = iter(load(Rows(deed=loading.value_error), context=context))
    assert next(it)[1].tolist() == [0, 1, 2]
    with pytest.raises(ValueError) as caught:
        next(it)
    text, what = str(caught.value), "thread" if context == "thread" else "process"
    assert text.startswith(f"Caught ValueError in DataLoader worker {what} 1.\nOriginal Traceback")
    assert "in value_error" in text and "ValueError: bad sample 5" in text
    assert text.endswith("It was index 5 of the batch [3, 4, 5].")
    assert [y.tolist() for _, y in it] == [[6, 7, 8], [9, 10, 11]]       # it goes on after that


def failing(error, match, dataset=None, **kw):
    with pytest.raises(error, match=match) as caught:
        list(load(Rows() if dataset is None else dataset, **kw))
    return str(caught.value)


def test_errors_of_all_kinds():
    text = failing(KeyError, "no 5", Rows(deed=loading.key_error))
    assert "\n" in text                                         # not the repr of a text
    failing(RuntimeError, r"Caught Picky in .*\n.*Traceback", Rows(deed=loading.picky))
    failing(RuntimeError, "Local: here", Rows(deed=loading.unpicklable))
    failing(IndexError, r"index 50 of the batch \[1, 50\]", ConcatDataset([Rows(), Rows()]),
            batch_size=1, batch_sampler=[[1, 50]])
    failing(ValueError, "index 5", Rows(deed=loading.value_error), batch_size=None)
    failing(ValueError, r"index 1 of the batch \[0, 1\]",
            Subset(Rows(deed=loading.value_error), [4, 5]))
    failing(RuntimeError, r"\[4\] at entry 0 and \[5\] at entry 1(.|\n)*the indices \[3, 4, 5\] "
            "were collated", collate_fn=lambda s: s[0] if s[0][1] < 3 else loading.ragged(s))
    failing(LookupError, "worker 0 can't start", worker_init_fn=loading.bad_init)
    failing(ValueError, "after sample 2 of the dataset's iterator",
            Shared(deed=loading.value_error))
    failing(RuntimeError, "Cowardly refusing to serialize non-leaf", collate_fn=loading.recorded)
    failing(Exception, "[pP]ickle", collate_fn=loading.a_function)
    failing(AssertionError, "daemonic processes", Rows(deed=lambda i: list(load(Rows()))))
    failing(AssertionError, "prefetch_factor must be greater than 0", prefetch_factor=0)


def test_unpicklable_datasets():
    for context in ("spawn", "forkserver"):
        with pytest.raises((AttributeError, TypeError, Exception), match="its collate_fn") as e:
            iter(load(Rows(), collate_fn=lambda s: s, context=context))
        assert "at the top of a module" in str(e.value) and context in str(e.value)
    with pytest.raises(TypeError, match=r"its dataset \(Rows\) can't be pickled"):
        iter(load(Rows(deed=threading.Lock()), context="spawn"))


def test_contexts():
    assert load(Rows()).multiprocessing_context.get_start_method() == "fork"
    own = multiprocessing.get_context("fork")
    assert load(Rows(), context=own).multiprocessing_context is own
    with pytest.raises(ValueError, match=r"valid start method in \[.*\], but got .*'green'"):
        load(Rows(), context="green")
    with pytest.raises(TypeError, match="valid context object or a string"):
        load(Rows(), context=3)
    with pytest.raises(ValueError, match="num_workers > 0"):
        load(Rows(), num_workers=0)
    with pytest.raises(NotImplementedError, match="cannot be pickled"):
        iter(load(Rows(), context="thread")).__getstate__()


def test_more_workers_than_processors():
    n = 1 + len(os.sched_getaffinity(0))
    with pytest.warns(UserWarning, match=f"create {n} worker processes in total"):
        DataLoader(Rows(), num_workers=n)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert DataLoader(Rows(), num_workers=1).prefetch_factor == 2


# Deaths -------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("deed", "how"), [
    (loading.die, r"exit code -9: killed by SIGKILL"), (loading.leave, "exit code 3"),
    (loading.leave_politely, "exit code 4")])
def test_a_dead_worker_is_named_at_once(deed, how):
    it = iter(load(Rows(60, deed=deed)))
    pid, began = it.pids[1], time.monotonic()
    with pytest.raises(RuntimeError) as caught:
        list(it)
    text = str(caught.value)
    assert text.startswith(f"DataLoader worker (pid(s) {pid}) exited unexpectedly: worker 1, pid "
                           f"{pid}, ") and how in text and "while loading [3, 4, 5]" in text
    assert time.monotonic() - began < 3
    with pytest.raises(RuntimeError, match="exited unexpectedly"):
        next(it)


@pytest.mark.parametrize("context", ["fork", "forkserver"])
def test_a_worker_killed_from_outside(context):
    it = iter(load(Rows(4, deed=loading.sleep, at=1), 1, context=context))
    next(it)
    threading.Timer(0.3, os.kill, (it.pids[1], signal.SIGTERM)).start()
    with pytest.raises(RuntimeError, match=f"{it.pids[1]}.*killed by SIGTERM, while loading"):
        next(it)


def test_a_thread_that_exits_is_told():
    failing(RuntimeError, "Caught SystemExit in DataLoader worker thread 1",
            Rows(deed=loading.leave_politely), context="thread")


@pytest.mark.parametrize("context", METHODS)
def test_timeout(context):
    deed = loading.sleep if context == "fork" else lambda i: time.sleep(1)
    it = iter(load(Rows(deed=deed), timeout=0.3, context=context))
    assert len(next(it)) == 2
    began = time.monotonic()
    with pytest.raises(RuntimeError, match=r"timed out after 0.3 seconds: batch 1 of \[3, 4, 5\] "
                                           "is with worker 1"):
        next(it)
    assert 0.25 < time.monotonic() - began < 3


def test_an_iterator_that_is_left_stops_its_workers():
    for deed in (None, loading.sleep):
        it = iter(load(Rows(100, deed=deed)))
        next(it)
        pids, began = it.pids, time.monotonic()
        del it
        assert time.monotonic() - began < 1 and all(gone(pid, 0.5) for pid in pids)


def test_a_worker_that_does_not_listen_is_killed(monkeypatch):
    from gpugrad.utils.data import processes

    monkeypatch.setattr(processes, "PATIENCE", 0.2)
    it = iter(load(Rows(100, deed=loading.sleep_stubbornly)))
    next(it)
    time.sleep(0.2)
    pids, began = it.pids, time.monotonic()
    del it
    assert time.monotonic() - began < 2 and all(gone(pid, 0.1) for pid in pids)


def script(text, *args):
    """A new Python that runs ``text``, in a process group of its own."""
    here = Path(__file__).resolve()
    path = os.pathsep.join([str(here.parents[2]), str(here.parent)])
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(text), *args],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env={**os.environ, "PYTHONPATH": path}, start_new_session=True)


WAITING = """
    import sys
    import loading
    from gpugrad.utils.data import DataLoader
    if __name__ == "__main__":
        n = 2 if sys.argv[1] == "fork" else 1
        it = iter(DataLoader(loading.Rows(deed=loading.sleep), 1, num_workers=n,
                             persistent_workers=True, multiprocessing_context=sys.argv[1]))
        for _ in range(5):
            next(it)
        print(*it.pids, flush=True)
        {end}
"""


@pytest.mark.parametrize(("context", "how"), [
    ("fork", signal.SIGINT), ("spawn", signal.SIGINT), ("fork", signal.SIGKILL),
    ("fork", signal.SIGTERM), ("forkserver", signal.SIGKILL)])
def test_whatever_ends_a_program_leaves_no_worker(context, how):
    with script(WAITING.format(end="next(it)"), context) as run:
        pids = [int(p) for p in run.stdout.readline().split()]
        assert pids, run.stderr.read()
        time.sleep(0.1)
        if how == signal.SIGINT:
            os.killpg(run.pid, how)         # as a terminal does: all processes get it
        else:
            os.kill(run.pid, how)
        assert all(gone(pid) for pid in pids)
        _, errors = run.communicate(timeout=20)
    if how == signal.SIGINT:
        assert errors.count("KeyboardInterrupt") == 1 and "DataLoader worker" not in errors
    assert run.returncode in (-how, 1, 130)


@pytest.mark.parametrize("context", ["fork", "forkserver", "spawn", "thread"])
def test_a_program_ends_cleanly_with_live_workers(context):
    with script(WAITING.format(end="pass"), context) as run:
        out, errors = run.communicate(timeout=30)
    assert run.returncode == 0 and errors == ""
    assert all(gone(int(pid)) for pid in out.split())


def test_a_terminated_worker_does_not_run_the_programs_handler():
    with script("""
        import os, signal, sys
        import loading
        from gpugrad.utils.data import DataLoader
        signal.signal(signal.SIGTERM, lambda *a: print("handled", flush=True))
        it = iter(DataLoader(loading.Rows(), num_workers=1))
        next(it)
        os.kill(it.pids[0], signal.SIGTERM)
        try:
            list(it)
        except RuntimeError as e:
            print(e)
    """) as run:
        out, _ = run.communicate(timeout=30)
    assert "handled" not in out and "killed by SIGTERM" in out


def test_forking_with_batches_and_loaders_alive():
    """A process forked meanwhile neither ends the workers nor loses what it sees of a batch."""
    it = iter(load(Rows(400, 9000), 1))
    batch = next(it)[0]
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.read(read, 1)                        # until the parent has gone through the rest
            code = 0 if (batch == 0).all() else 2
            del it
        finally:
            os._exit(code)
    del batch
    assert [int(y) for _, y in it] == list(range(1, 400))
    os.write(write, b"x")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(read), os.close(write)


# Shared memory ------------------------------------------------------------------------------------

def messages(contents, keep=False, **change):
    """What arrives of some contents sent through one pipe, and how many segments that took."""
    ours, theirs = multiprocessing.Pipe()
    sender = shared_memory.Sender(theirs)
    receiver = shared_memory.Receiver(ours, os.getpid(), {})
    got = []
    for c in contents:
        sender.send("batch", 0, c(sender) if callable(c) else c)
        got.append(receiver.receive().open())
        if not keep:
            got[-1] = None
        sender.returned(receiver.returned())
    ours.close(), theirs.close()
    return got, sender._count


def test_segments_are_used_again():
    assert messages([np.ones(9000)] * 50)[1] == 1
    assert messages([np.ones(9000 + i) for i in range(50)])[1] <= 2
    assert messages([np.ones(9000)] * 50, keep=True)[1] == 50
    assert messages([np.ones(9)] * 50)[1] == 0                  # they go through the pipe
    got, n = messages([np.full(9000, i) for i in range(100)], keep=True)
    assert n < 70                                               # of the others there are copies
    assert all((a == i).all() for i, a in enumerate(got))


def test_what_is_made_in_shared_memory_is_not_copied():
    def make(sender):
        a = sender.empty((90, 100), np.float64)
        a[:] = 7
        return {"all": a, "part": a[3:5], "again": a}
    (got,), n = messages([make], keep=True)
    assert n == 1 and (got["all"] == 7).all() and got["part"].shape == (2, 100)
    got["all"][3, 3] = 8
    assert got["part"][0, 3] == 8 and got["again"] is got["all"]


def test_sizes_that_change():
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 200_000, 150)
    contents = [rng.integers(0, 255, n).astype(np.uint8) for n in sizes]
    ours, theirs = multiprocessing.Pipe()
    sender = shared_memory.Sender(theirs)
    receiver = shared_memory.Receiver(ours, os.getpid(), {})
    kept = []
    for c in contents:
        sender.send("batch", 0, [c, c[::-1]])
        kept.append(receiver.receive().open())
        if len(kept) > 5:
            kept.pop(int(rng.integers(5)))
        sender.returned(receiver.returned())
        assert all((a == b[::-1]).all() for a, b in kept)
        assert len(sender._segments) < 40 and len(receiver._memory) == len(sender._segments)
    ours.close(), theirs.close()


def test_a_batch_that_the_dataset_keeps():
    for x in load(loading.Cached(), None, 1, prefetch_factor=1):
        assert (x[1] == torch.arange(10000.0)).all()
        x.zero_()                                   # this is ours, and none of the dataset's


def test_batches_stay_what_they_were():
    kept = list(load(Rows(300, 5000), 1, 2))
    assert all((x == i).all() for i, (x, _) in enumerate(kept))
    views = [x[0, 10:20] for x, _ in load(Rows(100, 5000), 1, 2)]
    assert all((v == i).all() for i, v in enumerate(views))


# CUDA ---------------------------------------------------------------------------------------------

@pytest.mark.gpu
def test_workers_leave_cuda_alone():
    there = torch.ones(3, device="cuda")
    assert len(list(load(Rows()))) == 4
    for deed in (loading.use_cuda, lambda i: there + 1, lambda i: there.tolist(),
                 lambda i: torch.cuda.synchronize(), lambda i: torch.cuda.Stream()):
        failing(RuntimeError, "Cannot re-initialize CUDA in forked subprocess", Rows(deed=deed))
    torch.cuda.manual_seed(3)
    assert (there + 1).tolist() == [2, 2, 2]


@pytest.mark.gpu
@pytest.mark.parametrize("context", METHODS)
def test_pinned_batches(context):
    for kw in ({}, {"in_order": False}, {"persistent_workers": True}):
        loader = load(Rows(50, 5000), 4, pin_memory=True, context=context, **kw)
        for _ in range(2):
            batches = list(loader)
            assert all(x.is_pinned() and y.is_pinned() for x, y in batches)
            assert sorted(i for _, y in batches for i in y.tolist()) == list(range(50))
    with pytest.raises(ValueError, match="It was index 5"):
        list(load(Rows(deed=loading.value_error), pin_memory=True, context=context))
    assert [b.tolist() for b in load(Shared(), 2, pin_memory=True, context=context)][-1] == [9]


@pytest.mark.gpu
def test_prefetch_to_the_device():
    loader = load(Rows(20, 3000), 4, pin_memory=True)
    torch.cuda.synchronize()
    if cuda_backend.simulated():
        torch.cuda.sim.reset()
    seen = []
    for x, y in prefetch(loader, "cuda"):
        assert x.is_cuda and y.is_cuda
        seen.append((x.sum(), y))
    if cuda_backend.simulated():
        assert torch.cuda.sim.stats().syncs == 0
    assert [y.tolist() for _, y in seen] == [list(range(i, i + 4)) for i in range(0, 20, 4)]
    assert [s.item() for s, _ in seen] == [3000.0 * (4 * i + 6) for i in range(0, 20, 4)]
    with pytest.raises(ValueError, match="It was index 5"):
        list(prefetch(load(Rows(deed=loading.value_error), pin_memory=True), "cuda"))


def test_prefetch_on_the_cpu():
    batches = [{"x": torch.ones(2), "s": "a"}, (torch.zeros(1), [torch.ones(1)])]
    got = list(prefetch(batches, "cpu", depth=3))
    assert got[0]["x"] is batches[0]["x"] and got[0]["s"] == "a" and type(got[1]) is tuple
    for depth in (0, 1.5, True):
        with pytest.raises(ValueError, match="positive integer"):
            prefetch(batches, "cpu", depth)


# The start ----------------------------------------------------------------------------------------

def test_multiprocessing_is_imported_when_it_is_used():
    with script("""
        import sys
        from gpugrad.utils.data import DataLoader
        list(DataLoader([1, 2]))
        DataLoader([1, 2], num_workers=1)
        print([n for n in ("multiprocessing", "socket", "mmap", "tempfile", "concurrent")
               if n in sys.modules])
    """) as run:
        out, errors = run.communicate(timeout=30)
    assert out == "[]\n" and errors == ""


def test_random_sampler_asked_twice_as_pytorch_does():
    asked = []

    class Noted(RandomSampler):
        def __iter__(self):
            asked.append(1)
            return iter(range(3))
    list(load(Rows(3), None, sampler=Noted(Rows(3))))
    assert len(asked) == 2


def test_an_interrupted_iterator_has_no_workers_left():
    """As in a notebook, where the iterator outlives Ctrl-C."""
    loader = load(Rows(deed=loading.sleep), persistent_workers=True)
    it = iter(loader)
    next(it)
    pids = it.pids
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        next(it)
    assert all(gone(pid, 1) for pid in pids)
    with pytest.raises(RuntimeError, match="stopped by KeyboardInterrupt: iterate over the loader"):
        next(it)
    again = iter(loader)
    assert len(next(again)[1]) == 3 and again is not it


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exceptions have no notes")
def test_errors_without_workers_have_a_note():
    with pytest.raises(ValueError) as caught:
        list(DataLoader(Rows(deed=loading.value_error), 3))
    assert caught.value.__notes__ == ["DataLoader: it was index 5 of the batch [3, 4, 5]."]
    with pytest.raises(RuntimeError) as caught:
        list(DataLoader(Rows(), 2, collate_fn=loading.ragged))
    assert "while the samples of the indices [0, 1] were collated" in caught.value.__notes__[0]
