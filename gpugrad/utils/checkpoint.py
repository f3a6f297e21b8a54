"""torch.utils.checkpoint: what backward needs is computed again instead of being kept.

Two ways, as in PyTorch. Not reentrant: hooks on saved tensors keep a place holder for each saved
tensor; the first of them that backward asks for runs the function again, and hooks put what that
saves in the places. Reentrant: the function is one node, which in backward runs it again and goes
backward through what that recorded.
"""
from __future__ import annotations

import contextlib
import enum
import traceback
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from gpugrad import autograd, backend
from gpugrad._state import state
from gpugrad._tensor import Tensor
from gpugrad.autograd.function import Function
from gpugrad.autograd.grad_mode import enable_grad, is_grad_enabled
from gpugrad.autograd.saved import saved_tensors_hooks
from gpugrad.creation import empty

_early_stop: list[bool | None] = [None]         # what set_checkpoint_early_stop says
_debug: list[bool | None] = [None]              # what set_checkpoint_debug_enabled says

_NOT_PASSED = ("{}: the use_reentrant parameter should be passed explicitly: use_reentrant=False "
               "is recommended; without it the call is made with use_reentrant=True.")
_TIP = ("Tip: To see a more detailed error message, either pass `debug=True` to "
        "`torch.utils.checkpoint.checkpoint(...)` or wrap the code block with `with "
        "torch.utils.checkpoint.set_checkpoint_debug_enabled(True):`.")


class CheckpointError(RuntimeError):
    """The function did something else when it was run again."""


class CheckpointPolicy(enum.Enum):
    """What selective checkpointing may decide about an operation."""

    MUST_SAVE = 0
    PREFER_SAVE = 1
    MUST_RECOMPUTE = 2
    PREFER_RECOMPUTE = 3
    MUST_CPU_OFFLOAD = 4


class SelectiveCheckpointContext:
    """What a policy of selective checkpointing is told: whether this is the second run."""

    def __init__(self, *, is_recompute: bool) -> None:
        self.is_recompute = is_recompute


def create_selective_checkpoint_contexts(policy_fn_or_list: Any,
                                         allow_cache_entry_mutation: bool = False) -> Any:
    raise NotImplementedError("selective checkpointing is not supported: checkpoint smaller parts, "
                              "or keep values by autograd.graph.saved_tensors_hooks")


class DefaultDeviceType:
    """The kind of device whose random state checkpoints keep; gpugrad keeps those of all."""

    _type = "cuda"

    @staticmethod
    def set_device_type(device: str = "cuda") -> None:
        """Remembered, without effect."""
        DefaultDeviceType._type = device

    @staticmethod
    def get_device_type() -> str:
        return DefaultDeviceType._type


def noop_context_fn() -> tuple[Any, Any]:
    """Two contexts that do nothing."""
    return contextlib.nullcontext(), contextlib.nullcontext()


@contextlib.contextmanager
def set_checkpoint_early_stop(enable: bool) -> Iterator[None]:
    """Whether checkpoints that are made inside stop the second run with the last saved tensor."""
    before, _early_stop[0] = _early_stop[0], enable
    try:
        yield
    finally:
        _early_stop[0] = before


@contextlib.contextmanager
def set_checkpoint_debug_enabled(enabled: bool | None) -> Iterator[None]:
    """Whether checkpoints that are made inside note where each tensor is saved, for errors."""
    before, _debug[0] = _debug[0], enabled
    try:
        yield
    finally:
        _debug[0] = before


def detach_variable(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The tensors of a tuple without history, requiring grad as they did."""
    if not isinstance(inputs, tuple):
        raise RuntimeError("Only tuple of tensors is supported. Got Unsupported input type: "
                           f"{type(inputs).__name__}")
    return tuple(x.detach().requires_grad_(x.requires_grad) if isinstance(x, Tensor) else x
                 for x in inputs)


def check_backward_validity(inputs: Iterable[Any]) -> None:
    """Warn if no input requires grad: the reentrant form then gives no gradients at all."""
    if not any(x.requires_grad for x in inputs if isinstance(x, Tensor)):
        warnings.warn("None of the inputs have requires_grad=True. Gradients will be None",
                      stacklevel=4)


def get_device_states(*args: Any) -> tuple[list[int], list[Tensor]]:
    """The CUDA devices of the tensors in ``args``, and the states of their generators."""
    from gpugrad import cuda

    ids = list(dict.fromkeys(x.get_device() for x in args if isinstance(x, Tensor) and x.is_cuda))
    return ids, [cuda.get_rng_state(i) for i in ids]


def set_device_states(devices: Any, states: Any, *, device_type: str | None = None) -> None:
    """Set what get_device_states returned."""
    from gpugrad import cuda

    for i, s in zip(devices, states):
        cuda.set_rng_state(s, i)


# Random numbers ----------------------------------------------------------------------------------

class _RandomStates:
    """The states of the generators at the time of the first run; empty if they don't matter."""

    def __init__(self, keep: bool) -> None:
        self.states = [(be.generator, be.generator.get_state()) for be in backend.made()] \
            if keep else []

    def check_complete(self) -> None:
        if self.states and len(self.states) != len(backend.made()):
            raise RuntimeError("a CUDA device came into use inside of a checkpoint, so the state "
                               "of its random numbers before it is not known: make a tensor on it "
                               "before the checkpoint, or pass preserve_rng_state=False")

    @contextlib.contextmanager
    def again(self) -> Iterator[None]:
        """Inside, the generators go on from where they were; afterwards from where they are now."""
        now = [(g, g.get_state()) for g, _ in self.states]
        try:
            for g, then in self.states:
                g.set_state(then)
            yield
        finally:
            for g, before in now:
                g.set_state(before)


class _Casts:
    """Autocast as it was at the time of the first run."""

    def __init__(self) -> None:
        self.modes = self._now() if state.autocast is not None else None

    @staticmethod
    def _now() -> list[tuple[str, bool, Any, bool]]:
        from gpugrad.amp import autocast_mode as mode

        caching = mode.is_autocast_cache_enabled()
        return [(kind, mode.is_autocast_enabled(kind), mode.get_autocast_dtype(kind), caching)
                for kind in mode.KINDS]

    @contextlib.contextmanager
    def again(self) -> Iterator[None]:
        """Inside, it is so again."""
        if self.modes is None and state.autocast is None:
            yield
            return
        from gpugrad.amp import autocast

        modes = self.modes
        if modes is None:                       # it has been switched on since
            modes = [(kind, False, dtype, caching) for kind, _, dtype, caching in self._now()]
        with contextlib.ExitStack() as stack:
            for kind, enabled, dtype, caching in modes:
                stack.enter_context(autocast(kind, dtype=dtype, enabled=enabled,
                                             cache_enabled=caching))
            yield


# The reentrant form ------------------------------------------------------------------------------

class CheckpointFunction(Function):
    """``run_function(*args)`` as one node, which keeps the arguments and runs it again."""

    @staticmethod
    def forward(ctx: Any, run_function: Any, preserve_rng_state: bool, *args: Any) -> Any:
        check_backward_validity(args)
        ctx.run_function = run_function
        ctx.random, ctx.casts = _RandomStates(preserve_rng_state), _Casts()
        ctx.args = [None if isinstance(x, Tensor) else x for x in args]
        ctx.places = [i for i, x in enumerate(args) if isinstance(x, Tensor)]
        ctx.save_for_backward(*[args[i] for i in ctx.places])
        out = run_function(*args)
        ctx.random.check_complete()
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        if state.sweep is not None and state.sweep.only is not None:
            raise RuntimeError("When use_reentrant=True, torch.utils.checkpoint is incompatible "
                               "with .grad() or passing an `inputs` parameter to .backward(). To "
                               "resolve this error, you can either set use_reentrant=False, or "
                               "call .backward() without passing the `inputs` argument.")
        args = list(ctx.args)
        for i, t in zip(ctx.places, ctx.saved_tensors):
            args[i] = t
        with ctx.random.again(), ctx.casts.again():
            args = list(detach_variable(tuple(args)))
            with enable_grad():
                out = ctx.run_function(*args)
        outs = (out,) if isinstance(out, Tensor) else out
        live = [(t, g) for t, g in zip(outs, gradients)
                if isinstance(t, Tensor) and t.requires_grad]
        if not live:
            raise RuntimeError("none of output has requires_grad=True, this checkpoint() is not "
                               "necessary")
        autograd.backward([t for t, _ in live], [g for _, g in live])
        return (None, None, *[x.grad if isinstance(x, Tensor) else None for x in args])


# The other form ----------------------------------------------------------------------------------

class _Enough(BaseException):
    """The second run has saved all that there is to save. No Exception: nobody shall catch it."""


class _Inputs(Function):
    """Keeps arguments as an operation keeps what it saves, so that an outer checkpoint sees them.
    """

    @staticmethod
    def forward(ctx: Any, handle: Tensor, *args: Tensor) -> Tensor:
        ctx.save_for_backward(*args)
        return handle.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        raise AssertionError("nothing leads here")


class _Place:
    """Stands in the graph for one saved tensor."""

    __slots__ = ("__weakref__", "frame", "number")

    def __init__(self, frame: _Frame, number: int) -> None:
        self.frame, self.number = frame, number


class _Frame:
    """One call of checkpoint: the places of what it saved, and what the second run put there."""

    def __init__(self, again: Callable[..., None], early_stop: bool, check: bool,
                 debug: bool) -> None:
        self.again, self.early_stop, self.check, self.debug = again, early_stop, check, debug
        self.places: list[weakref.ref[_Place]] = []
        self.known: list[dict[str, Any]] = []
        self.traces: list[str] = []
        self.values: dict[int, Tensor] = {}
        self.inputs: Any = None

    def pack(self, t: Tensor) -> _Place:
        place = _Place(self, len(self.places))
        self.places.append(weakref.ref(place))
        self.known.append(_metadata(t))
        if self.debug:
            self.traces.append(_where())
        return place

    def unpack(self, place: _Place) -> Tensor:
        if place.number not in self.values:
            self.run_again()
        return self.values.pop(place.number)

    def run_again(self) -> None:
        """Run the function a second time, and keep what it saves for the places still there."""
        found: list[dict[str, Any]] = []
        traces: list[str] = []
        values: dict[int, Tensor] = {}

        def pack(t: Tensor) -> Tensor:
            n = len(found)
            if n >= len(self.places):
                raise self.error("trying to save more tensors during recomputation than during the "
                                 "original forward pass.", traces)
            found.append(_metadata(t))
            if self.debug:
                traces.append(_where())
            kept = t.detach()
            if self.places[n]() is not None:
                values[n] = kept
            if self.early_stop and n + 1 == len(self.places):
                raise _Enough
            return kept

        args = self.inputs.saved_tensors
        with contextlib.suppress(_Enough), saved_tensors_hooks(pack, lambda t: t), enable_grad():
            self.again(*args)
        if len(found) != len(self.places):
            raise self.error("A different number of tensors was saved during the original forward "
                             "and recomputation.\nNumber of tensors saved during forward: "
                             f"{len(self.places)}\nNumber of tensors saved during recomputation: "
                             f"{len(found)}.", traces)
        if self.check:
            wrong = [f"tensor at position {i}:\nsaved metadata: {then}\nrecomputed metadata: {now}"
                     for i, (then, now) in enumerate(zip(self.known, found))
                     if then != now and i in values]
            if wrong:
                text = "\n".join(wrong)
                raise self.error("Recomputed values for the following tensors have different "
                                 f"metadata than during the forward pass.\n{text}\n.", traces)
        self.values = values

    def error(self, text: str, traces: list[str]) -> CheckpointError:
        tip = _TIP
        if self.debug:
            tip = "".join(f"Where the {which} run saved its tensors:\n" + "".join(
                f"{i}: {trace}" for i, trace in enumerate(lines))
                for which, lines in (("first", self.traces), ("second", traces)))
        return CheckpointError(f"torch.utils.checkpoint: {text}\n\n{tip}")


def _metadata(t: Tensor) -> dict[str, Any]:
    return {"shape": t.shape, "dtype": t.dtype, "device": t.device}


def _where() -> str:
    """The caller's lines, without those of gpugrad itself."""
    lines = [f for f in traceback.extract_stack() if "gpugrad" not in f.filename.split("/")[:-1]
             and "/gpugrad/" not in f.filename.replace("\\", "/")]
    return "".join(traceback.format_list(lines[-4:])).strip() + "\n"


@contextlib.contextmanager
def _kept(frame: _Frame, context: Any) -> Iterator[None]:
    with saved_tensors_hooks(frame.pack, lambda place: place.frame.unpack(place)), context:
        yield


def _without_reentrance(function: Any, preserve: bool, context_fn: Any, check: bool, debug: bool,
                        early_stop: bool, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    first, second = context_fn()
    random, casts = _RandomStates(preserve), _Casts()
    places = [i for i, x in enumerate(args) if isinstance(x, Tensor)]
    others = [None if isinstance(x, Tensor) else x for x in args]

    def again(*tensors: Tensor) -> None:
        given = list(others)
        for i, t in zip(places, tensors):
            given[i] = t
        with random.again(), casts.again(), second:
            function(*given, **kwargs)

    if not is_grad_enabled():
        return function(*args, **kwargs)
    frame = _Frame(again, early_stop, check, debug)
    handle = empty(0).requires_grad_()
    frame.inputs = _Inputs.apply(handle, *[args[i] for i in places]).grad_fn
    with _kept(frame, first):
        out = function(*args, **kwargs)
    random.check_complete()
    return out


# What scripts call -------------------------------------------------------------------------------

def checkpoint(function: Any, *args: Any, use_reentrant: bool | None = None,
               context_fn: Callable[[], tuple[Any, Any]] = noop_context_fn,
               determinism_check: str = "default", debug: bool = False, early_stop: bool = True,
               **kwargs: Any) -> Any:
    """``function(*args, **kwargs)``, keeping the arguments alone for backward, which runs it again.

    use_reentrant: False is the better form, in which ``autograd.grad``, nested checkpoints and
    keyword arguments work, and inputs need not require grad. preserve_rng_state (True): the second
    run draws the same random numbers, on every device. context_fn: gives two contexts, for the
    first run and the second. determinism_check: "default" compares shapes, dtypes and devices of
    what the two runs save, "none" does not. early_stop: the second run ends when nothing more is
    needed. debug: errors tell where tensors were saved.
    """
    if use_reentrant is None:
        warnings.warn(_NOT_PASSED.format("torch.utils.checkpoint"), stacklevel=2)
        use_reentrant = True
    preserve = kwargs.pop("preserve_rng_state", True)
    if kwargs and use_reentrant:
        raise ValueError("Unexpected keyword arguments: " + ",".join(kwargs))
    if use_reentrant:
        if context_fn is not noop_context_fn or debug is not False:
            raise ValueError("Passing `context_fn` or `debug` is only supported when "
                             "use_reentrant=False.")
        return CheckpointFunction.apply(function, preserve, *args)
    if determinism_check not in ("default", "none"):
        raise ValueError("determinism_check should be one of ['default', 'none'], but got "
                         f"{determinism_check}")
    stop = early_stop if _early_stop[0] is None else _early_stop[0]
    noting = debug if _debug[0] is None else _debug[0]
    return _without_reentrance(function, preserve, context_fn, determinism_check == "default",
                               noting, stop, args, kwargs)


def checkpoint_sequential(functions: Any, segments: int, input: Any,
                          use_reentrant: bool | None = None, **kwargs: Any) -> Any:
    """The functions, or the children of a module, one after another, in so many segments; all but
    the last are checkpointed.
    """
    if use_reentrant is None:
        warnings.warn(_NOT_PASSED.format("torch.utils.checkpoint.checkpoint_sequential"),
                      stacklevel=2)
        use_reentrant = True
    preserve = kwargs.pop("preserve_rng_state", True)
    if kwargs:
        raise ValueError("Unexpected keyword arguments: " + ",".join(kwargs))
    parts = list(functions.children()) if hasattr(functions, "children") else list(functions)
    size = len(parts) // segments
    if size == 0:
        raise ValueError(f"checkpoint_sequential: {len(parts)} functions can't be run in "
                         f"{segments} segments: pass segments={len(parts)} at most")

    def chain(some: list[Any]) -> Callable[[Any], Any]:
        def run(x: Any) -> Any:
            for part in some:
                x = part(x)
            return x
        return run

    last = size * (segments - 1)
    for at in range(0, last, size):
        input = checkpoint(chain(parts[at:at + size]), input, use_reentrant=use_reentrant,
                           preserve_rng_state=preserve)
    return chain(parts[last:])(input)
