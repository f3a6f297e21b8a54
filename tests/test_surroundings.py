"""What stands round a model in a script: accelerator, distributed, hub, processes, profiler."""
from __future__ import annotations

import gzip
import json
import time

import pytest

import gpugrad as torch
from gpugrad import distributed as dist
from gpugrad import nn


@pytest.mark.gpu
def test_accelerator():
    acc = torch.accelerator
    assert acc.is_available() and acc.device_count() == torch.cuda.device_count()
    assert acc.current_accelerator() == torch.device("cuda")
    assert acc.current_device_index() == acc.current_device_idx() == torch.cuda.current_device()
    with acc.device_index(0), acc.device_index(None):
        x = torch.ones(1000, device=acc.current_accelerator())
    acc.set_device_index("cuda")
    acc.synchronize()
    acc.set_stream(acc.current_stream())
    assert acc.memory_allocated() >= x.nbytes and acc.max_memory_allocated() >= 0
    assert torch.float16 in acc.get_device_capability()["supported_dtypes"]
    assert len(acc.get_memory_info()) == 2
    with pytest.raises(ValueError, match="cpu doesn't match the current accelerator cuda"):
        acc.synchronize("cpu")


def test_accelerator_where_there_is_none(no_cuda, monkeypatch):
    from gpugrad import cuda

    monkeypatch.setattr(cuda, "is_available", lambda: False)
    acc = torch.accelerator
    assert not acc.is_available() and acc.device_count() == 0
    assert acc.current_accelerator() is None
    acc.empty_cache()
    with pytest.raises(RuntimeError, match="Cannot access accelerator device when none is"):
        acc.synchronize()


def test_distributed():
    assert not dist.is_available() and not dist.is_initialized() and not dist.is_nccl_available()
    assert dist.group.WORLD is None and dist.ReduceOp.SUM is not dist.ReduceOp.MAX
    assert not isinstance(nn.Linear(1, 1), nn.parallel.DistributedDataParallel)
    for call in (lambda: dist.init_process_group("nccl"), dist.get_rank, dist.get_world_size,
                 lambda: dist.all_reduce(torch.ones(1)), dist.barrier,
                 lambda: nn.parallel.DistributedDataParallel(nn.Linear(1, 1))):
        with pytest.raises(NotImplementedError, match="not supported: gpugrad"):
            call()
    assert not hasattr(dist, "rpc")
    with pytest.raises(AttributeError, match=r"distributed\.fsdp is not supported"):
        dist.fsdp  # noqa: B018


@pytest.mark.parametrize("drop", [False, True])
def test_distributed_sampler(drop):
    from gpugrad.utils.data.distributed import DistributedSampler

    def parts(n, replicas, **kw):
        made = [DistributedSampler(range(n), replicas, rank, drop_last=drop, **kw)
                for rank in range(replicas)]
        assert all(len(list(s)) == len(s) for s in made)
        return [list(s) for s in made]

    want = [[0, 3, 6], [1, 4, 7], [2, 5, 8]] if drop else [[0, 3, 6, 9], [1, 4, 7, 0],
                                                          [2, 5, 8, 1]]
    assert parts(10, 3, shuffle=False) == want
    torch.manual_seed(99)
    g = torch.Generator().manual_seed(7)
    order = torch.randperm(8, generator=g).tolist()
    assert parts(8, 2, seed=7) == [order[::2], order[1::2]]
    sampler = DistributedSampler(range(8), 1, 0, seed=6)
    sampler.set_epoch(1)
    assert list(sampler) == order
    with pytest.raises(ValueError, match=r"Invalid rank 2, rank should be in the interval \[0, 1"):
        DistributedSampler(range(8), 2, 2)
    with pytest.raises(RuntimeError, match="Requires distributed package"):
        DistributedSampler(range(8))


def test_data_parallel(device):
    net = nn.Linear(2, 2).to(device)
    ids = None if device == "cuda" else []
    both = nn.DataParallel(net, ids)
    assert list(both.state_dict()) == ["module.weight", "module.bias"] and both.module is net
    x = torch.ones(3, 2, device=device)
    assert torch.equal(both(x), net(x))
    if device == "cuda":
        assert both.device_ids == [0] and both(x.cpu()).is_cuda
        kept = nn.DataParallel(nn.ModuleDict({"f": net}), [0])
        kept.module.forward = lambda x, y=None: (x, [y])
        out = kept(torch.ones(1), y={"a": torch.ones(1)})
        assert out[0].is_cuda and out[1][0]["a"].is_cuda


# Settings and versions ---------------------------------------------------------------------------

def test_absent_backends():
    backends = torch.backends
    for name in ("mps", "mkl", "mkldnn", "openmp", "nnpack", "opt_einsum"):
        assert getattr(backends, name).is_available() is False
    assert not backends.mps.is_built()
    assert backends.cpu.get_cpu_capability() in ("DEFAULT", "AVX2", "AVX512")
    with pytest.raises(RuntimeError, match="Apple"):
        backends.mps.get_name()
    assert backends.mkldnn.enabled is True
    with backends.mkldnn.flags(enabled=False):
        assert backends.mkldnn.enabled is False
    before = backends.mkldnn.set_flags(_enabled=False)
    assert before[0] is True and backends.mkldnn.enabled is False
    backends.mkldnn.enabled = True
    with pytest.raises(RuntimeError, match="enabled expects a bool, but got int"):
        backends.mkldnn.enabled = 1
    with pytest.raises(ValueError, match="`strategy` must be one of the following"):
        backends.opt_einsum.strategy = "best"
    with pytest.raises(AttributeError, match="has no attribute 'foo'"):
        backends.mkldnn.foo  # noqa: B018
    with backends.cuda.sdp_kernel(enable_flash=False):
        assert not backends.cuda.flash_sdp_enabled() and backends.cuda.math_sdp_enabled()
    assert backends.cuda.flash_sdp_enabled()
    assert backends.cuda.preferred_linalg_library("magma") == "magma"
    backends.cuda.preferred_linalg_library("default")
    with pytest.raises(RuntimeError, match="Unknown input value 'x'"):
        backends.cuda.preferred_blas_library("x")


def test_versions():
    assert torch.version.__version__ == torch.__version__ and torch.version.hip is None
    assert "NumPy" in torch.__config__.show() and "CPUs" in torch.__config__.parallel_info()


def test_types():
    assert isinstance(3, torch.types.Number) and isinstance("cpu", torch.types.Device)
    assert torch.types._dtype is torch.dtype and torch.types._device is torch.device


def test_trees():
    tree = torch.utils._pytree
    value = {"a": [1, 2], "b": (3, {"c": 4})}
    leaves, spec = tree.tree_flatten(value)
    assert leaves == [1, 2, 3, 4] == tree.tree_leaves(value)
    assert tree.tree_unflatten(leaves, spec) == value
    assert tree.tree_map(lambda x, y: x + y, value, value)["b"] == (6, {"c": 8})
    assert tree.tree_map_only(int, lambda x: -x, [1, "a"]) == [-1, "a"]
    assert tree.tree_all(bool, value) and not tree.tree_any(lambda x: x > 4, value)
    with pytest.raises(ValueError, match="different structures"):
        tree.tree_map(max, [1, 2], [1])


# Files and models from elsewhere -----------------------------------------------------------------

HUBCONF = '''
dependencies = ["numpy"]
import helper_of_hubconf

def small(n=2):
    """A small model."""
    from gpugrad import nn
    return nn.Linear(n, helper_of_hubconf.OUT)

def _hidden():
    pass
'''


def test_hub(tmp_path):
    hub = torch.hub
    (tmp_path / "hubconf.py").write_text(HUBCONF)
    (tmp_path / "helper_of_hubconf.py").write_text("OUT = 3")
    folder = str(tmp_path)
    assert hub.load(folder, "small", n=4, source="local").weight.shape == (3, 4)
    assert hub.list(folder, source="local") == ["small"]
    assert hub.help(folder, "small", source="local") == "A small model."
    with pytest.raises(RuntimeError, match="Cannot find callable big in hubconf"):
        hub.load(folder, "big", source="local")
    with pytest.raises(NotImplementedError, match="clone the repository"):
        hub.load("owner/name", "small")
    with pytest.raises(ValueError, match='Unknown source: "x"'):
        hub.load(folder, "small", source="x")
    (tmp_path / "hubconf.py").write_text("dependencies = ['no_such_package_here']")
    with pytest.raises(RuntimeError, match="Missing dependencies: no_such_package_here"):
        hub.list(folder, source="local")
    with pytest.raises(FileNotFoundError, match=r"hubconf\.py"):
        hub.list(str(tmp_path / "nowhere"), source="local")


def test_files_from_urls(tmp_path, monkeypatch, capsys):
    import hashlib

    hub = torch.hub
    monkeypatch.setattr(hub, "_dir", [None])
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    assert hub.get_dir() == str(tmp_path / "home" / "hub")
    hub.set_dir(tmp_path / "kept")
    source = tmp_path / "net.pth"
    torch.save({"w": torch.ones(2)}, source)
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    named = tmp_path / f"net-{digest[:8]}.pth"
    source.rename(named)
    for _ in range(2):                  # the second time from the folder
        state = hub.load_state_dict_from_url(named.as_uri(), check_hash=True)
        assert state["w"].tolist() == [1, 1]
        if named.exists():
            named.rename(tmp_path / "elsewhere.pth")
    assert "Downloading" in capsys.readouterr().err
    assert (tmp_path / "kept" / "checkpoints" / named.name).exists()
    goal = tmp_path / "copy.pth"
    with pytest.raises(RuntimeError, match="invalid hash value"):
        hub.download_url_to_file((tmp_path / "elsewhere.pth").as_uri(), str(goal), "0000",
                                 progress=False)
    assert not goal.exists() and not list(tmp_path.glob("*.partial"))
    assert torch.utils.model_zoo.load_url is hub.load_state_dict_from_url


# Processes ---------------------------------------------------------------------------------------

def write(i, folder, text):
    if text == "fail" and i == 1:
        raise ValueError("as expected")
    (folder / f"{i}").write_text(text)


def test_processes(tmp_path):
    mp = torch.multiprocessing
    assert mp.start_processes(write, (tmp_path, "done"), nprocs=2, start_method="fork") is None
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0", "1"]
    with pytest.raises(mp.ProcessRaisedException, match=r"(?s)Process 1 terminated.*as expected"):
        mp.start_processes(write, (tmp_path, "fail"), nprocs=2, start_method="fork")
    with pytest.raises(ValueError, match="start_processes"):
        mp.spawn(write, (tmp_path, "x"), start_method="fork")
    assert mp.Queue is not None and mp.cpu_count() > 0
    assert mp.get_sharing_strategy() in mp.get_all_sharing_strategies()
    with pytest.raises(AssertionError, match="invalid sharing strategy"):
        mp.set_sharing_strategy("x")


# Times -------------------------------------------------------------------------------------------

def test_profiler(tmp_path):
    p = torch.profiler
    with p.profile(activities=[p.ProfilerActivity.CPU]) as prof:
        for _ in range(3):
            with p.record_function("outer"):
                with p.record_function("inner"):
                    time.sleep(0.001)

        @p.record_function("decorated")
        def fn():
            return 7

        assert fn() == 7
    with p.record_function("unseen"):
        pass
    events = {e.key: e for e in prof.key_averages()}
    assert set(events) == {"outer", "inner", "decorated"} and events["outer"].count == 3
    assert events["inner"].cpu_time_total >= 3000
    assert events["outer"].cpu_time_total >= events["inner"].cpu_time_total
    assert events["outer"].self_cpu_time_total < events["inner"].cpu_time_total
    table = prof.key_averages().table(sort_by="self_cpu_time_total", row_limit=2)
    assert "inner" in table.splitlines()[3] and "# of Calls" in table
    for name, opened in (("a.json", open), ("b.json.gz", gzip.open)):
        prof.export_chrome_trace(str(tmp_path / name))
        with opened(tmp_path / name, "rt") as f:
            assert len(json.load(f)["traceEvents"]) == 7


def test_profiler_steps(tmp_path):
    p = torch.profiler
    ready = []
    with p.profile(schedule=p.schedule(wait=1, warmup=1, active=2, repeat=2, skip_first=1),
                   on_trace_ready=lambda prof: ready.append(
                       sorted({e.key for e in prof.key_averages()}))) as prof:
        for _ in range(12):
            with p.record_function("work"):
                pass
            prof.step()
    assert ready == [["ProfilerStep#3", "ProfilerStep#4", "work"],
                     ["ProfilerStep#7", "ProfilerStep#8", "work"]]
    action = p.schedule(wait=1, warmup=1, active=1)
    assert [action(i).name for i in range(4)] == ["NONE", "WARMUP", "RECORD_AND_SAVE", "NONE"]
    with p.profile(on_trace_ready=p.tensorboard_trace_handler(str(tmp_path / "t"))):
        pass
    assert len(list((tmp_path / "t").iterdir())) == 1
    with torch.autograd.profiler.profile() as old:
        with torch.autograd.profiler.record_function("x"):
            pass
    assert old.total_average().count == 1 and "x" in old.table()


@pytest.mark.gpu
def test_profiler_with_cuda_in_use():
    torch.ones(1, device="cuda")
    with torch.profiler.profile() as prof:
        with torch.profiler.record_function("on cuda"):
            torch.ones(1, device="cuda").add_(1)
    assert prof.key_averages()[0].key == "on cuda"


def test_benchmark():
    bench = torch.utils.benchmark
    timer = bench.Timer("x + 1", globals={"x": 1}, label="sum", sub_label="small",
                        timer=time.perf_counter)
    one = timer.timeit(100)
    assert one.number_per_run == 100 and len(one.times) == 1 and one.mean == one.median > 0
    many = timer.blocked_autorange(min_run_time=0.05)
    assert len(many.times) > 1 and many.iqr >= 0
    assert "sum\nsmall" in repr(many) and "Median" in repr(many)
    with pytest.raises(ValueError, match="only a `str`"):
        bench.Timer(print)
