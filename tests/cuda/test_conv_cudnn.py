"""cuDNN as a way of convolutions: what it is asked for, by a stand-in that computes on the host."""
from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import gpugrad as torch
import gpugrad.nn.functional as F
from gpugrad import backend
from gpugrad.backend import precision
from gpugrad.ops import conv_cudnn
from gpugrad.ops import conv_routes as routes

pytestmark = pytest.mark.gpu
LAST = torch.channels_last


class Edge:
    """A tensor of a graph."""

    def __init__(self, dim: Any = None, stride: Any = None, data_type: Any = None,
                 name: str = "") -> None:
        self.dim, self.stride, self.data_type, self.output = dim, stride, data_type, False

    def set_output(self, on: bool) -> Edge:
        self.output = on
        return self

    def set_data_type(self, kind: Any) -> Edge:
        self.data_type = kind
        return self

    def set_dim(self, dim: Any) -> Edge:
        self.dim = dim
        return self

    def set_stride(self, stride: Any) -> Edge:
        self.stride = stride
        return self

    def of(self, memory: Any) -> Any:
        """The elements at an address, as this tensor says that they lie."""
        flat = backend.get("cuda").to_host(memory[self].array).reshape(-1).astype(float)
        return torch.from_numpy(np.lib.stride_tricks.as_strided(
            flat, self.dim, [8 * s for s in self.stride]).copy())


class Graph:
    """pygraph, as far as it is used. ``factor`` makes results wrong."""

    factor, made = 1.0, 0

    def __init__(self, io_data_type: Any, intermediate_data_type: Any, compute_data_type: Any,
                 handle: Any) -> None:
        assert intermediate_data_type == compute_data_type == "float" and handle == "handle"
        self.calls: list[str] = []
        self.notes: list[str] = []
        Graph.made += 1

    def tensor(self, **kw: Any) -> Edge:
        return Edge(**kw)

    def node(self, kind: str, compute_data_type: Any, pre_padding: Any, post_padding: Any,
             stride: Any, dilation: Any, **ins: Edge) -> Edge:
        assert pre_padding == post_padding and all(type(v) is list for v in (stride, dilation))
        self.kind, self.ins, self.out = kind, ins, Edge()
        self.how = {"stride": tuple(stride), "padding": tuple(pre_padding),
                    "dilation": tuple(dilation)}
        return self.out

    def conv_fprop(self, image: Edge, weight: Edge, **kw: Any) -> Edge:
        return self.node("forward", image=image, weight=weight, **kw)

    def conv_dgrad(self, loss: Edge, filter: Edge, **kw: Any) -> Edge:
        return self.node("grad_input", loss=loss, filter=filter, **kw)

    def conv_wgrad(self, image: Edge, loss: Edge, **kw: Any) -> Edge:
        return self.node("grad_weight", image=image, loss=loss, **kw)

    def deselect_numeric_notes(self, notes: list[str]) -> None:
        self.notes = notes

    def deselect_workspace_greater_than(self, limit: int) -> None:
        self.limit = limit

    def __getattr__(self, name: str) -> Any:
        assert name in ("validate", "build_operation_graph", "create_execution_plans",
                        "check_support", "build_plans")
        return lambda *args: self.calls.append(name)

    def get_workspace_size(self) -> int:
        assert self.calls == ["validate", "build_operation_graph", "create_execution_plans",
                              "check_support", "build_plans"]
        return 64

    @torch.enable_grad()
    def execute(self, memory: Any, workspace: Any, handle: Any) -> None:
        assert handle == "handle" and workspace.array.nbytes == 64 and self.out.output
        a = {name: edge.of(memory) for name, edge in self.ins.items()}
        empty = torch.zeros(self.out.dim, dtype=torch.float64, requires_grad=True)
        if self.kind == "forward":
            y = F.conv2d(a["image"], a["weight"], None, *self.how.values())
        elif self.kind == "grad_input":
            y, = torch.autograd.grad(F.conv2d(empty, a["filter"], None, *self.how.values()), empty,
                                     a["loss"])
        else:
            y, = torch.autograd.grad(F.conv2d(a["image"], empty, None, *self.how.values()), empty,
                                     a["loss"])
        be, out = backend.get("cuda"), memory[self.out].array
        order = np.argsort([-s for s in self.out.stride], kind="stable")
        y = y.detach().permute(*order.tolist()).numpy() * self.factor
        out[...] = be.from_host(np.ascontiguousarray(y).reshape(out.shape).astype(out.dtype))


@pytest.fixture
def cudnn(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The stand-in, found where the library would be."""
    notes = "TENSOR_CORE DOWN_CONVERT_INPUTS NONDETERMINISTIC REDUCED_PRECISION_REDUCTION".split()
    module = types.SimpleNamespace(
        pygraph=Graph, create_handle=lambda: "handle", backend_version=lambda: 91002,
        set_stream=lambda handle, stream: None,
        data_type=types.SimpleNamespace(FLOAT="float", HALF="half", BFLOAT16="bfloat16"),
        heur_mode=types.SimpleNamespace(A="A", FALLBACK="FALLBACK"),
        numerical_note=types.SimpleNamespace(**{n: n for n in notes}))
    before = dict(vars(precision.convolution))
    monkeypatch.setattr(conv_cudnn, "library", lambda: module)
    monkeypatch.setattr(Graph, "made", 0)
    precision.convolution.allow_tf32 = False
    yield module
    vars(precision.convolution).update(before)
    for table in (conv_cudnn._plans, conv_cudnn._handles, conv_cudnn._warned, routes._timed):
        table.clear()


def arrays(dtype: Any, last: bool) -> Any:
    generator = np.random.default_rng(0)
    x, w, b = (torch.from_numpy(generator.standard_normal(s)).to(dtype)
               for s in ((2, 3, 7, 6), (5, 3, 3, 2), (5,)))
    return [t.cuda().contiguous(memory_format=LAST) if last and t.ndim == 4 else t.cuda()
            for t in (x, w, b)]


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_graphs_are_those_of_the_convolution(cudnn: Any, dtype: Any, last: bool) -> None:
    results = []
    for name in ("cudnn", "columns"):
        leaves = [t.detach().requires_grad_() for t in arrays(dtype, last)]
        with routes.only(name):
            y = F.conv2d(*leaves, stride=(2, 1), padding=(1, 2), dilation=(1, 2))
            results.append([y, *torch.autograd.grad(y, leaves, y.detach() + 1)])
    for a, b in zip(*results, strict=True):
        assert a.stride() == b.stride()
        torch.testing.assert_close(a, b, rtol=2e-3, atol=2e-3 if dtype is torch.float32 else 5e-2)
    assert Graph.made == 3
    graph = next(iter(conv_cudnn._plans.values()))[0]
    assert graph.limit == backend.get("cuda").column_bytes and "NONDETERMINISTIC" in graph.notes
    assert ("TENSOR_CORE" in graph.notes) is (dtype is torch.float32)


def trial(monkeypatch: pytest.MonkeyPatch, times: list[float]) -> str:
    """The way that a trial with these times finds, for a convolution in float32."""
    precision.convolution.benchmark = True
    took = iter(times)
    monkeypatch.setattr(backend.get("cuda").cupy.cuda, "get_elapsed_time", lambda *a: next(took))
    x, w, b = arrays(torch.float32, False)
    F.conv2d(x, w, b)
    assert list(took) == []
    return next(iter(routes._timed.values()))


def test_it_is_taken_if_it_wins_the_trial(cudnn: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert trial(monkeypatch, [3.0, 2.0, 1.0]) == "cudnn"
    precision.convolution.enabled = False
    routes._timed.clear()
    assert trial(monkeypatch, [3.0, 2.0]) == "columns"


@pytest.mark.parametrize("fault", ["wrong", "nan", "raises"])
def test_it_is_left_out_unless_it_agrees(cudnn: Any, monkeypatch: pytest.MonkeyPatch,
                                         fault: str) -> None:
    if fault == "raises":
        def refuse(*args: Any, **kw: Any) -> None:
            raise RuntimeError("no engine")
        monkeypatch.setattr(Graph, "execute", refuse)
    else:
        monkeypatch.setattr(Graph, "factor", 1.01 if fault == "wrong" else np.nan)
    with pytest.warns(UserWarning, match="no engine" if fault == "raises" else "off by"):
        assert trial(monkeypatch, [3.0, 2.0]) == "columns"
    routes._timed.clear()
    assert trial(monkeypatch, [3.0, 4.0]) == "direct"           # and no second warning


def test_plans_are_not_made_in_a_capture(cudnn: Any) -> None:
    x, w, _ = arrays(torch.float32, False)
    with routes.only("cudnn"):
        graph = torch.cuda.CUDAGraph()
        with pytest.raises(RuntimeError, match="planned for the first time"), \
                torch.cuda.graph(graph):
            F.conv2d(x, w)


def test_what_torch_backends_says(cudnn: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = torch.backends.cudnn
    assert settings.is_available() and settings.version() == 91002
    assert settings.is_acceptable(torch.ones(1, device="cuda"))
    assert not settings.is_acceptable(torch.ones(1))
    assert not settings.is_acceptable(torch.ones(1, dtype=torch.int64, device="cuda"))
    monkeypatch.undo()
    if torch.cuda.sim.is_simulated():
        assert not settings.is_available() and settings.version() is None


def test_the_real_module_has_these_names() -> None:
    """Without a GPU a graph can be made up to where it is checked."""
    cudnn = pytest.importorskip("cudnn")
    for name in ("NONDETERMINISTIC", "REDUCED_PRECISION_REDUCTION", "TENSOR_CORE",
                 "DOWN_CONVERT_INPUTS"):
        assert hasattr(cudnn.numerical_note, name)
    assert cudnn.heur_mode.A and cudnn.heur_mode.FALLBACK
    kind, real = cudnn.data_type.HALF, cudnn.data_type.FLOAT
    how = {"pre_padding": [1, 1], "post_padding": [1, 1], "stride": [2, 2], "dilation": [1, 1],
           "compute_data_type": real}
    for node, ins in (("conv_fprop", ("image", "weight")), ("conv_dgrad", ("loss", "filter")),
                      ("conv_wgrad", ("image", "loss"))):
        graph = cudnn.pygraph(io_data_type=kind, intermediate_data_type=real,
                              compute_data_type=real)
        made = {name: graph.tensor(name=name, dim=[2, 3, 5, 5], stride=[75, 1, 15, 3],
                                   data_type=kind) for name in ins}
        out = getattr(graph, node)(**made, **how)
        out.set_output(True).set_data_type(kind)
        out.set_dim([2, 3, 5, 5]).set_stride([75, 1, 15, 3])
        assert list(out.get_dim()) == [2, 3, 5, 5] and list(out.get_stride()) == [75, 1, 15, 3]
        for step in ("validate", "build_operation_graph", "create_execution_plans",
                     "deselect_numeric_notes", "deselect_workspace_greater_than", "check_support",
                     "build_plans", "get_workspace_size", "execute"):
            assert callable(getattr(graph, step))
    assert callable(cudnn.create_handle) and callable(cudnn.set_stream)
