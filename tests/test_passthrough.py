"""What compiles, traces, exports or dispatches in PyTorch: here it passes on, or says it can't."""
from __future__ import annotations

import typing

import pytest

import gpugrad as torch
from gpugrad import nn


def double(x):
    return x * 2


MODULE = nn.Linear(2, 2)
IDENTITIES = {
    "jit.script": lambda f: torch.jit.script(f), "jit.ignore": lambda f: torch.jit.ignore(f),
    "jit.ignore()": lambda f: torch.jit.ignore()(f),
    "jit.ignore(drop)": lambda f: torch.jit.ignore(drop=True)(f),
    "jit.unused": lambda f: torch.jit.unused(f), "jit.export": lambda f: torch.jit.export(f),
    "jit.trace": lambda f: torch.jit.trace(f, (torch.ones(2),)),
    "jit.trace_module": lambda f: torch.jit.trace_module(f, {"forward": torch.ones(2)}),
    "jit.script_if_tracing": lambda f: torch.jit.script_if_tracing(f),
    "jit.interface": lambda f: torch.jit.interface(f),
    "jit._overload": lambda f: torch.jit._overload(f),
    "jit.optimize_for_inference": lambda f: torch.jit.optimize_for_inference(f),
    "fx.wrap": lambda f: torch.fx.wrap(f), "compile": lambda f: torch.compile(f),
    "compile()": lambda f: torch.compile()(f),
    "compile(...)": lambda f: torch.compile(fullgraph=True, dynamic=True, backend="inductor",
                                            mode="max-autotune", disable=False)(f),
    "compile(f, ...)": lambda f: torch.compile(f, backend="eager", options={"x": 1}),
    "compiler.compile": lambda f: torch.compiler.compile(f),
    "compiler.disable": lambda f: torch.compiler.disable(f),
    "compiler.disable()": lambda f: torch.compiler.disable(recursive=False, reason="x")(f),
    "compiler.allow_in_graph": lambda f: torch.compiler.allow_in_graph(f),
    "compiler.assume_constant_result": lambda f: torch.compiler.assume_constant_result(f),
    "compiler.substitute_in_graph": lambda f: torch.compiler.substitute_in_graph(double)(f),
    "compiler.set_stance": lambda f: f if torch.compiler.set_stance("force_eager") else None,
    "_dynamo.optimize": lambda f: torch._dynamo.optimize("inductor", nopython=True)(f),
    "_dynamo.disable": lambda f: torch._dynamo.disable(f),
    "utils._pytree": lambda f: torch.utils._pytree.tree_map(double, {"a": 1}) and f,
}


@pytest.mark.parametrize("name", IDENTITIES)
@pytest.mark.parametrize("what", [double, MODULE], ids=["function", "module"])
def test_what_is_given_comes_back(name, what):
    assert IDENTITIES[name](what) is what


def test_questions_have_answers():
    assert not torch.jit.is_scripting() and not torch.jit.is_tracing()
    assert not torch.compiler.is_compiling() and not torch.compiler.is_dynamo_compiling()
    assert not torch._dynamo.is_compiling() and not torch.onnx.is_in_onnx_export()
    assert torch._C._get_tracing_state() is None
    assert not isinstance(MODULE, torch.jit.ScriptModule)
    assert not isinstance(torch.ones(1), torch.fx.Proxy)
    assert torch.jit.Final is typing.Final
    with torch.jit.optimized_execution(True), torch.jit.fuser("fuser2"), torch.jit.strict_fusion():
        pass
    with torch.compiler.set_stance("force_eager"):
        pass


def test_parts_of_jit_that_do_something():
    assert torch.jit.annotate(list, [1]) == [1]
    assert torch.jit.wait(torch.jit.fork(double, 4)) == 8
    assert torch.jit._unwrap_optional(3) == 3
    with pytest.raises(AssertionError, match="Unwrapping null optional"):
        torch.jit._unwrap_optional(None)
    cases = [([1, 2], list[int], True), ([1, "a"], list[int], False),
             ({"a": 1}, dict[str, int], True), ((1, "a"), tuple[int, str], True),
             ((1, 2), tuple[int, str], False), (None, int | None, True), (2, int | str, True),
             ("a", int | None, False), (3, int, True), (3, (str, int), True)]
    for value, kind, want in cases:
        assert torch.jit.isinstance(value, kind) is want, (value, kind)
    with pytest.raises(RuntimeError, match="in training mode"):
        torch.jit.freeze(nn.Linear(1, 1))

    class Old(torch.jit.ScriptModule):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones(2))

        @torch.jit.script_method
        def forward(self, x):
            return x * self.w

    assert Old()(torch.ones(2)).tolist() == [1, 1]


ABSENT = {
    "jit.save": lambda: torch.jit.save(MODULE, "x"), "jit.load": lambda: torch.jit.load("x"),
    "jit.CompilationUnit": lambda: torch.jit.CompilationUnit("def f(): pass"),
    "fx.symbolic_trace": lambda: torch.fx.symbolic_trace(MODULE),
    "fx.Graph": lambda: torch.fx.Graph(), "fx.Tracer": lambda: torch.fx.Tracer(),
    "sparse.mm": lambda: torch.sparse.mm(torch.ones(2, 2), torch.ones(2, 2)),
    "quantization.prepare": lambda: torch.quantization.prepare(MODULE),
    "ao": lambda: torch.ao.quantization.quantize_dynamic(MODULE),
    "_dynamo.explain": lambda: torch._dynamo.explain(double),
    "opcheck": lambda: torch.library.opcheck(double, ()),
    "modes": lambda: torch.overrides.TorchFunctionMode().__enter__(),
    "cpp": lambda: torch.utils.cpp_extension.load("x", []),
}


@pytest.mark.parametrize("name", ABSENT)
def test_what_is_not_there_says_so(name):
    with pytest.raises(NotImplementedError, match="not supported"):
        ABSENT[name]()


def test_wrong_arguments_of_compile():
    with pytest.raises(RuntimeError, match="Either mode or options can be specified"):
        torch.compile(double, mode="default", options={})
    with pytest.raises(RuntimeError, match="Unrecognized mode=fast"):
        torch.compile(double, mode="fast")
    with pytest.raises(RuntimeError, match=r"invalid torch.compile stance 'x'"):
        torch.compiler.set_stance("x")
    with pytest.raises(RuntimeError, match="Must be either a callable or string name"):
        torch.fx.wrap(3)


def test_stubs_of_quantisation_pass_on():
    x = torch.ones(2)
    assert torch.quantization.QuantStub()(x) is x is torch.ao.quantization.DeQuantStub()(x)


def test_assertions():
    torch._assert(torch.tensor(True), "fine")
    with pytest.raises(AssertionError, match=r"^not fine$"):
        torch._assert(1 > 2, "not fine")
    torch._check(True)
    torch._check_is_size(3, max=4)
    for check, error in ((torch._check, RuntimeError), (torch._check_index, IndexError),
                         (torch._check_value, ValueError), (torch._check_type, TypeError),
                         (torch._check_not_implemented, NotImplementedError)):
        with pytest.raises(error, match=r"^why$"):
            check(False, lambda: "why")
        with pytest.raises(error, match="Expected cond to be True"):
            check(False)
    with pytest.raises(TypeError, match="cond must be a bool"):
        torch._check(1)
    with pytest.raises(RuntimeError):
        torch._check_is_size(-1)
    torch._check_tensor_all(torch.tensor([True, True]))
    with pytest.raises(RuntimeError):
        torch._check_tensor_all(torch.tensor([True, False]))


# Operations of a program's own -------------------------------------------------------------------

@pytest.fixture
def library(monkeypatch):
    from gpugrad import library, ops

    before = set(vars(ops))
    monkeypatch.setattr(library, "_defined", {})
    yield library
    for name in set(vars(ops)) - before:
        if isinstance(vars(ops)[name], library.Namespace):
            delattr(ops, name)


def test_custom_op(library, device):
    @library.custom_op("demo::scaled", mutates_args=())
    def scaled(x: torch.Tensor, by: float = 2.0) -> torch.Tensor:
        """x times by."""
        return torch.as_tensor(x.detach().cpu().numpy() * by, device=x.device)

    x = torch.ones(3, device=device, requires_grad=True)
    assert scaled(x).tolist() == [2, 2, 2] and scaled.__doc__ == "x times by."
    assert not scaled(x).requires_grad
    assert torch.ops.demo.scaled(x, by=3.0).tolist() == [3, 3, 3]
    assert torch.ops.demo.scaled.default(x).tolist() == [2, 2, 2]

    def setup(ctx, inputs, output):
        ctx.by = inputs[1]

    def backward(ctx, g):
        return g * ctx.by, None

    scaled.register_autograd(backward, setup_context=setup)
    scaled(x, by=5.0).sum().backward()
    assert x.grad.tolist() == [5, 5, 5]
    with torch.no_grad():
        assert scaled(x).tolist() == [2, 2, 2]

    @scaled.register_fake
    def fake(x, by=2.0):
        return torch.empty_like(x)

    @scaled.register_kernel("cuda")
    def on_cuda(x, by=2.0):
        return x * 100

    assert scaled(x.detach()).tolist() == ([2] * 3 if device == "cpu" else [100] * 3)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        torch.ops.demo.nothing  # noqa: B018


def test_libraries(library):
    lib = library.Library("mine", "DEF")
    assert lib.define("plus(Tensor a, Tensor b) -> Tensor") == "plus"
    with pytest.raises(NotImplementedError, match="there is no implementation"):
        torch.ops.mine.plus(torch.ones(1), torch.ones(1))
    lib.impl("plus", lambda a, b: a + b, "CPU")
    assert torch.ops.mine.plus(torch.ones(1), torch.ones(1)).item() == 2
    library.define("mine::minus", "(Tensor a, Tensor b) -> Tensor")

    @library.impl("mine::minus", "default")
    def minus(a, b):
        return a - b

    a = torch.ones(2, requires_grad=True)
    torch.ops.mine.minus(a, torch.ones(2)).sum().backward()     # of differentiable operations
    assert a.grad.tolist() == [1, 1]
    library.custom_op("mine::cpu_only", lambda x: x, mutates_args=(), device_types="cuda")
    with pytest.raises(NotImplementedError, match="Could not run 'mine::cpu_only' with arguments "
                                                  "from the 'cpu' backend"):
        torch.ops.mine.cpu_only(torch.ones(1))
    with pytest.raises(ValueError, match="of the form 'namespace::name'"):
        library.custom_op("x", lambda x: x, mutates_args=())
    with pytest.raises(RuntimeError, match="operator a::b does not exist"):
        library.register_fake("a::b", double)
    with pytest.raises(ValueError, match="Unsupported kind"):
        library.Library("mine", "OTHER")


# __torch_function__ ------------------------------------------------------------------------------

def test_overrides():
    from gpugrad import overrides

    class Mine:
        @classmethod
        def __torch_function__(cls, func, types, args, kwargs):
            return (cls.__name__, func.__name__) if cls is not Shy else NotImplemented

    class Derived(Mine):
        pass

    class Shy(Mine):
        pass

    def fn(*args):
        if overrides.has_torch_function(args):
            return overrides.handle_torch_function(fn, args, *args)
        return "own"

    t = torch.ones(1)
    assert fn(t) == fn(nn.Parameter(t)) == "own"
    assert fn(t, Mine()) == ("Mine", "fn") and fn(Mine(), Derived()) == ("Derived", "fn")
    assert fn(Shy(), Mine()) == ("Mine", "fn")
    with pytest.raises(TypeError, match=r"no implementation found for '.*fn' on types that"):
        fn(Shy())
    assert overrides.has_torch_function_unary(Mine()) and not overrides.has_torch_function_unary(t)
    assert overrides.has_torch_function_variadic(t, Mine())
    assert overrides.is_tensor_like(t) and overrides.is_tensor_like(Mine())
    assert not overrides.is_tensor_like(3)

    @overrides.wrap_torch_function(lambda x, y: (x, y))
    def wrapped(x, y):
        return "own"

    assert wrapped(t, t) == "own" and wrapped(t, y=Mine()) == ("Mine", "wrapped")


def test_what_libraries_ask_about_themselves():
    tree = [(1, {"a": 2}), 3]
    nodes = torch.utils._pytree.SUPPORTED_NODES
    parts, keys = nodes[torch.utils._pytree._get_node_type(tree[0][1])].flatten_fn(tree[0][1])
    assert parts == [2] and keys == ("a",) and int not in nodes
    spec = torch.utils._pytree.TreeSpec(list, None, [torch.utils._pytree.LeafSpec()])
    assert torch.utils._pytree.tree_unflatten([5], spec) == [5]
    device, dtype = torch._C._nn._parse_to("cpu", torch.float64)[:2]
    assert device == torch.device("cpu") and dtype is torch.float64
    assert not isinstance(1, torch.SymInt) and isinstance(torch.ones(1), torch._C._TensorMeta) is \
        isinstance(torch.ones(1), type)
    loader = torch.utils.data.DataLoader([1, 2])
    assert isinstance(iter(loader), torch.utils.data.dataloader._BaseDataLoaderIter)


@pytest.mark.parametrize("dtype", ["complex32", "float8_e4m3fn", "float8_e5m2"])
def test_dtypes_to_compare_with_that_no_tensor_has(dtype):
    named = getattr(torch, dtype)
    assert repr(named) == f"torch.{dtype}" and torch.ones(1).dtype not in (named,)
    assert named.is_complex is (dtype == "complex32") and named.is_floating_point is not \
        named.is_complex
    for make in (lambda: torch.ones(2, dtype=named), lambda: torch.ones(2).to(named),
                 lambda: torch.tensor([1.0], dtype=named)):
        with pytest.raises(NotImplementedError, match=f"of dtype torch.{dtype} are not supported"):
            make()


def test_autocast_for_devices_without_tensors_changes_nothing():
    for kind in ("mps", "xpu", "hpu"):
        with torch.autocast(kind):
            assert torch.is_autocast_enabled(kind) and not torch.is_autocast_enabled("cpu")
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is torch.float32
    assert torch.get_autocast_dtype("mps") is torch.float16
