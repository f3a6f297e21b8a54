"""GradScaler: losses scaled up, so that half-precision gradients don't vanish."""
from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any

from gpugrad._tensor import Tensor
from gpugrad.autograd import listening
from gpugrad.autograd.grad_mode import no_grad
from gpugrad.creation import full
from gpugrad.dtypes import float16, float32, int32
from gpugrad.functions.amp import (
    _amp_foreach_non_finite_check_and_unscale_,
    _amp_update_scale_,
)


class OptState(Enum):
    """How far an optimizer is in an iteration."""

    READY = 0
    UNSCALED = 1
    STEPPED = 2


def _fresh() -> dict[str, Any]:
    return {"stage": OptState.READY, "found_inf_per_device": {}}


class GradScaler:
    """Scales losses, unscales gradients, and leaves out steps whose gradients overflowed.

    The scale is multiplied by ``growth_factor`` after ``growth_interval`` steps without infinities
    or NaN, and by ``backoff_factor`` when there were some. Whether there were is a flag on the
    device, which gpugrad's own optimizers read there: a step waits for nothing. Optimizers with a
    ``step`` of their own are called, or not, by the host, which waits for the flag.

    Micikevicius et al., "Mixed Precision Training", 2018.
    """

    def __init__(self, device: str = "cuda", init_scale: float = 2.0 ** 16,
                 growth_factor: float = 2.0, backoff_factor: float = 0.5,
                 growth_interval: int = 2000, enabled: bool = True) -> None:
        self._device, self._enabled = device, enabled
        if enabled and device == "cuda":
            from gpugrad import cuda
            if not cuda.is_available():
                warnings.warn("torch.cuda.amp.GradScaler is enabled, but CUDA is not available.  "
                              "Disabling.", stacklevel=2)
                self._enabled = False
        if not self._enabled:
            return
        if growth_factor <= 1.0:
            raise AssertionError("The growth factor must be > 1.0.")
        if backoff_factor >= 1.0:
            raise AssertionError("The backoff factor must be < 1.0.")
        self._init_scale, self._scale = init_scale, None
        self._growth_factor, self._backoff_factor = growth_factor, backoff_factor
        self._growth_interval = growth_interval
        self._init_growth_tracker, self._growth_tracker = 0, None
        self._per_optimizer_states: dict[int, dict[str, Any]] = defaultdict(_fresh)

    _scale: Tensor | None
    _growth_tracker: Tensor | None

    def _made(self, asked_by: str) -> tuple[Tensor, Tensor]:
        fix = ("This may indicate your script did not use scaler.scale(loss or outputs) earlier in "
               "the iteration.")
        if self._scale is None:
            raise AssertionError(f"Attempted {asked_by} but _scale is None.  {fix}")
        if self._growth_tracker is None:
            raise AssertionError(f"Attempted {asked_by} but _growth_tracker is None.  {fix}")
        return self._scale, self._growth_tracker

    # Losses --------------------------------------------------------------------------------------

    def scale(self, outputs: Any) -> Any:
        """A tensor, or each of some, nested or not, times the scale."""
        if not self._enabled:
            return outputs
        if isinstance(outputs, Tensor):
            if self._scale is None:
                self._scale = full((), self._init_scale, dtype=float32, device=outputs.device)
                self._growth_tracker = full((), self._init_growth_tracker, dtype=int32,
                                            device=outputs.device)
            return outputs * self._scale.to(outputs.device, non_blocking=True)
        if isinstance(outputs, Iterable):
            scaled = map(self.scale, outputs)
            return type(outputs)(scaled) if isinstance(outputs, list | tuple) else scaled
        raise ValueError("outputs must be a Tensor or an iterable of Tensors")

    # Gradients -----------------------------------------------------------------------------------

    def _unscale_grads_(self, optimizer: Any, factor: float | Tensor,
                        allow_fp16: bool) -> dict[Any, Tensor]:
        """Multiply all gradients by a factor; the flag of each device, 1 if one was infinite."""
        grads: dict[Any, list[Tensor]] = {}
        for group in optimizer.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    if not allow_fp16 and p.grad.dtype is float16:
                        raise ValueError("Attempting to unscale FP16 gradients.")
                    grads.setdefault(p.grad.device, []).append(p.grad)
        flags = {}
        with no_grad():
            for device, some in grads.items():
                flags[device] = full((), 0.0, dtype=float32, device=device)
                by = factor.to(device, non_blocking=True) if isinstance(factor, Tensor) else \
                    full((), factor, dtype=float32, device=device)
                _amp_foreach_non_finite_check_and_unscale_(some, flags[device], by)
        return flags

    @listening.update
    def unscale_(self, optimizer: Any) -> None:
        """Divide an optimizer's gradients by the scale, for clipping before ``step``."""
        if not self._enabled:
            return
        scale, _ = self._made("unscale_")
        state = self._per_optimizer_states[id(optimizer)]
        if state["stage"] is OptState.UNSCALED:
            raise RuntimeError("unscale_() has already been called on this optimizer since the "
                               "last update().")
        if state["stage"] is OptState.STEPPED:
            raise RuntimeError("unscale_() is being called after step().")
        with no_grad():
            factor = scale.double().reciprocal().float()
        state["found_inf_per_device"] = self._unscale_grads_(optimizer, factor, False)
        state["stage"] = OptState.UNSCALED

    # Steps ---------------------------------------------------------------------------------------

    @listening.update
    def step(self, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        """``optimizer.step(*args, **kwargs)``, unless there are infinite gradients.

        It unscales them if ``unscale_`` was not called.
        """
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        if "closure" in kwargs:
            raise RuntimeError("Closure use is not currently supported if GradScaler is enabled.")
        self._made("step")
        state = self._per_optimizer_states[id(optimizer)]
        if state["stage"] is OptState.STEPPED:
            raise RuntimeError("step() has already been called since the last update().")
        by_flag = getattr(optimizer, "_step_supports_amp_scaling", False)
        # Fused optimizers unscale while they step; for others it is done before, as in PyTorch.
        fused = by_flag and getattr(optimizer, "_unscales_itself", True)
        if state["stage"] is OptState.READY:
            (self._check_inf_per_device if fused else self.unscale_)(optimizer)
        if not fused and not state["found_inf_per_device"]:
            raise AssertionError("No inf checks were recorded for this optimizer.")
        step = self._step_by_flag if by_flag else self._step_by_host
        result = step(optimizer, state, lambda: optimizer.step(*args, **kwargs))
        state["stage"] = OptState.STEPPED
        return result

    def _check_inf_per_device(self, optimizer: Any) -> dict[Any, Tensor]:
        """Look for infinities and NaN without unscaling; the flag of each device."""
        flags = self._unscale_grads_(optimizer, 1.0, True)
        self._per_optimizer_states[id(optimizer)]["found_inf_per_device"] = flags
        return flags

    def _found_inf_per_device(self, optimizer: Any) -> dict[Any, Tensor]:
        flags: dict[Any, Tensor] = self._per_optimizer_states[id(optimizer)]["found_inf_per_device"]
        return flags

    def _step_by_flag(self, optimizer: Any, state: dict[str, Any], step: Callable[[], Any]) -> Any:
        """The optimizer looks at the flag on the device, and divides by the scale if that is left
        to do."""
        own = getattr(optimizer, "grad_scale", None)
        found = list(state["found_inf_per_device"].values())
        if state["stage"] is OptState.READY:
            own = self._scale if own is None else self._scale * own
        optimizer.grad_scale = own
        optimizer.found_inf = _sum(found, found[0]) if found else None
        try:
            return step()
        finally:
            optimizer.__dict__.pop("grad_scale", None)
            optimizer.__dict__.pop("found_inf", None)

    def _step_by_host(self, optimizer: Any, state: dict[str, Any], step: Callable[[], Any]) -> Any:
        flags = state["found_inf_per_device"].values()
        return None if any([flag.item() for flag in flags]) else step()

    @listening.update
    def update(self, new_scale: float | Tensor | None = None) -> None:
        """Set the scale for the next iteration, from what was found or as given."""
        if not self._enabled:
            return
        scale, tracker = self._made("update")
        with no_grad():
            if isinstance(new_scale, Tensor):
                if new_scale.device.type != self._device or new_scale.numel() != 1 or \
                        new_scale.requires_grad:
                    raise AssertionError(
                        "new_scale should be a float or a 1-element torch.cuda.FloatTensor or "
                        "torch.FloatTensor with requires_grad=False.")
                scale.copy_(new_scale.reshape(()))
            elif new_scale is not None:
                scale.fill_(new_scale)
            else:
                found = [flag for state in self._per_optimizer_states.values()
                         for flag in state["found_inf_per_device"].values()]
                if not found:
                    raise AssertionError("No inf checks were recorded prior to update.")
                _amp_update_scale_(scale, tracker, _sum(found, scale), self._growth_factor,
                                   self._backoff_factor, self._growth_interval)
        self._per_optimizer_states = defaultdict(_fresh)

    # What it knows -------------------------------------------------------------------------------

    def _get_scale_async(self) -> Tensor | None:
        return self._scale

    def get_scale(self) -> float:
        """The scale as a number, 1 if not enabled; waits for the device."""
        if not self._enabled:
            return 1.0
        return self._init_scale if self._scale is None else self._scale.item()

    def _get_growth_tracker(self) -> int:
        if not self._enabled:
            return 0
        tracker = self._growth_tracker
        return self._init_growth_tracker if tracker is None else int(tracker.item())

    def get_growth_factor(self) -> float:
        return self._growth_factor

    def set_growth_factor(self, new_factor: float) -> None:
        self._growth_factor = new_factor

    def get_backoff_factor(self) -> float:
        return self._backoff_factor

    def set_backoff_factor(self, new_factor: float) -> None:
        self._backoff_factor = new_factor

    def get_growth_interval(self) -> int:
        return self._growth_interval

    def set_growth_interval(self, new_interval: int) -> None:
        self._growth_interval = new_interval

    def is_enabled(self) -> bool:
        return self._enabled

    def state_dict(self) -> dict[str, Any]:
        """Scale, factors, interval and the count of good steps; {} if not enabled."""
        if not self._enabled:
            return {}
        return {"scale": self.get_scale(), "growth_factor": self._growth_factor,
                "backoff_factor": self._backoff_factor, "growth_interval": self._growth_interval,
                "_growth_tracker": self._get_growth_tracker()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what ``state_dict()`` returned, here or in PyTorch."""
        if not self._enabled:
            return
        if not state_dict:
            raise RuntimeError("The source state dict is empty, possibly because it was saved from "
                               "a disabled instance of GradScaler.")
        self._init_scale = state_dict["scale"]
        self._growth_factor = state_dict["growth_factor"]
        self._backoff_factor = state_dict["backoff_factor"]
        self._growth_interval = state_dict["growth_interval"]
        self._init_growth_tracker = state_dict["_growth_tracker"]
        if self._scale is not None:
            self._scale.fill_(self._init_scale)
        if self._growth_tracker is not None:
            self._growth_tracker.fill_(self._init_growth_tracker)

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        if self._enabled:
            if self._per_optimizer_states:
                raise AssertionError("A GradScaler instance may only be pickled at the beginning "
                                     "of an iteration, or at the end after scaler.update().")
            state.update(_init_scale=self.get_scale(), _scale=None, _growth_tracker=None,
                         _init_growth_tracker=self._get_growth_tracker())
        return state


def _sum(flags: list[Tensor], like: Tensor) -> Tensor:
    total = flags[0].to(like.device, non_blocking=True)
    for flag in flags[1:]:
        total = total + flag.to(like.device, non_blocking=True)
    return total
