"""Distribution: shapes, validation, expansion, and what every distribution can be asked."""
from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from gpugrad._tensor import Size, Tensor
from gpugrad.autograd.grad_mode import no_grad
from gpugrad.creation import full
from gpugrad.distributions import constraints
from gpugrad.distributions.utils import lazy_property

__all__ = ["Distribution"]

SCALAR = Size()


class Distribution:
    """The base class.

    A sample has the shape ``sample_shape + batch_shape + event_shape``: independent draws, one
    distribution for each place of the batch, and what a single draw looks like.

    A family lists in ``_batched`` what grows with the batch in ``expand``, tensors and other
    distributions, each with the number of its last dims that don't belong to the batch, and in
    ``_kept`` the attributes that stay as they are.
    """

    has_rsample: Any = False
    has_enumerate_support: Any = False
    _validate_args = __debug__
    _kept: tuple[str, ...] = ()

    @staticmethod
    def set_default_validate_args(value: bool) -> None:
        """Whether distributions made from now on check parameters and samples."""
        if value not in (True, False):
            raise ValueError(f"set_default_validate_args expects True or False, got {value!r}")
        Distribution._validate_args = value

    def __init__(self, batch_shape: Size = SCALAR, event_shape: Size = SCALAR,
                 validate_args: bool | None = None) -> None:
        self._batch_shape, self._event_shape = batch_shape, event_shape
        if validate_args is not None:
            self._validate_args = validate_args
        if self._validate_args:
            self._validate_parameters()

    # Validation ----------------------------------------------------------------------------------

    def _validate_parameters(self) -> None:
        try:
            arg_constraints = self.arg_constraints
        except NotImplementedError:
            warnings.warn(f"{type(self)} does not define `arg_constraints`. Please set "
                          "`arg_constraints = {}` or initialize the distribution with "
                          "`validate_args=False` to turn off validation.", stacklevel=4)
            return
        for name, constraint in arg_constraints.items():
            computed = name not in self.__dict__ and isinstance(
                getattr(type(self), name, None), lazy_property)
            if computed or constraints.is_dependent(constraint):
                continue
            value = getattr(self, name)
            if not constraint.check(value).all():
                raise ValueError(
                    f"Expected parameter {name} ({type(value).__name__} of shape "
                    f"{tuple(value.shape)}) of distribution {self!r} to satisfy the constraint "
                    f"{constraint!r}, but found invalid values:\n{value}")

    def _validate_sample(self, value: Tensor) -> None:
        """A ValueError if value isn't a sample: of another shape, or out of the support."""
        if not isinstance(value, Tensor):
            raise ValueError("The value argument to log_prob must be a Tensor")
        shape, expected = value.size(), self._batch_shape + self._event_shape
        if shape[len(shape) - len(self._event_shape):] != self._event_shape:
            raise ValueError("The right-most size of value must match event_shape: "
                             f"{shape} vs {self._event_shape}.")
        if any(1 not in (i, j) and i != j for i, j in zip(reversed(shape), reversed(expected))):
            raise ValueError("Value is not broadcastable with batch_shape+event_shape: "
                             f"{shape} vs {expected}.")
        try:
            support = self.support
        except NotImplementedError:
            warnings.warn(f"{type(self)} does not define `support` to enable sample validation. "
                          "Please initialize the distribution with `validate_args=False` to turn "
                          "off validation.", stacklevel=4)
            return
        if not support.check(value).all():
            raise ValueError(
                f"Expected value argument ({type(value).__name__} of shape {tuple(value.shape)}) "
                f"to be within the support ({support!r}) of the distribution {self!r}, but found "
                f"invalid values:\n{value}")

    def _check(self, value: Tensor) -> None:
        """_validate_sample, if that is wanted."""
        if self._validate_args:
            self._validate_sample(value)

    # Shapes --------------------------------------------------------------------------------------

    @property
    def batch_shape(self) -> Size:
        """The shape over which parameters are batched."""
        return self._batch_shape

    @property
    def event_shape(self) -> Size:
        """The shape of a single draw."""
        return self._event_shape

    def _extended_shape(self, sample_shape: Sequence[int] = SCALAR) -> Size:
        """The shape of what sample(sample_shape) returns."""
        return Size(tuple(sample_shape) + self._batch_shape + self._event_shape)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Any:
        """This distribution with its batch expanded, as by Tensor.expand, to a shape.

        A subclass with an ``__init__`` of its own makes the new object and hands it over as
        ``_instance``.
        """
        family = next((c for c in type(self).__mro__ if "_batched" in vars(c)), None)
        if family is None:
            raise NotImplementedError(f"{type(self).__name__} does not define expand()")
        new = self._get_checked_instance(family, _instance)
        new._batch_shape, new._event_shape = Size(batch_shape), self._event_shape
        new._validate_args = self._validate_args
        self._expand_into(new)
        return new

    def _expand_into(self, new: Any) -> None:
        """Give ``new``, which has its shapes, this one's parameters."""
        batch_shape = new._batch_shape
        for c in type(self).__mro__:
            for name in vars(c).get("_kept", ()):
                new.__dict__[name] = self.__dict__[name]
            for name, own in vars(c).get("_batched", {}).items():
                x = self.__dict__.get(name)
                if isinstance(x, Distribution):
                    new.__dict__[name] = x.expand(batch_shape + _last(x.batch_shape, own))
                elif x is not None:
                    new.__dict__[name] = x.expand(batch_shape + _last(x.shape, own))

    def _get_checked_instance(self, cls: type, _instance: Any = None) -> Any:
        if _instance is None and type(self).__init__ != cls.__init__:  # type: ignore[misc]
            raise NotImplementedError(
                f"Subclass {type(self).__name__} of {cls.__name__} that defines a custom __init__ "
                "method must also define a custom .expand() method.")
        return self.__new__(type(self)) if _instance is None else _instance

    # What there is to ask ------------------------------------------------------------------------

    @property
    def arg_constraints(self) -> Any:
        """The constraint of each parameter, by its name."""
        raise NotImplementedError

    @property
    def support(self) -> Any:
        """The constraint that samples satisfy."""
        raise NotImplementedError

    @property
    def mean(self) -> Tensor:
        raise NotImplementedError

    @property
    def mode(self) -> Tensor:
        raise NotImplementedError(f"{type(self)} does not implement mode")

    @property
    def variance(self) -> Tensor:
        raise NotImplementedError

    @property
    def stddev(self) -> Tensor:
        """The square root of the variance."""
        return self.variance.sqrt()

    def sample(self, sample_shape: Sequence[int] = SCALAR) -> Tensor:
        """Draws without gradients, of shape sample_shape + batch_shape + event_shape."""
        with no_grad():
            return self.rsample(sample_shape)

    def rsample(self, sample_shape: Sequence[int] = SCALAR) -> Tensor:
        """Draws that are a differentiable function of the parameters."""
        raise NotImplementedError

    def sample_n(self, n: int) -> Tensor:
        """The old name of sample((n,))."""
        warnings.warn("`sample_n(n)` will be deprecated. Use `sample((n,))` instead.",
                      FutureWarning, stacklevel=2)
        return self.sample(Size((n,)))

    def log_prob(self, value: Tensor) -> Tensor:
        """The logarithm of the density, or of the probability, at value."""
        raise NotImplementedError

    def cdf(self, value: Tensor) -> Tensor:
        """The probability of what isn't above value."""
        raise NotImplementedError

    def icdf(self, value: Tensor) -> Tensor:
        """The inverse of cdf."""
        raise NotImplementedError

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All values of a discrete distribution along a new first dim.

        Without ``expand`` the dims of the batch are 1.
        """
        raise NotImplementedError

    def entropy(self) -> Tensor:
        """The entropy in nats, of shape batch_shape."""
        raise NotImplementedError

    def perplexity(self) -> Tensor:
        """exp(entropy)."""
        return self.entropy().exp()

    def _everywhere(self, value: float, like: Tensor) -> Tensor:
        """A number for each place of the batch and the event."""
        return full(self._extended_shape(), value, dtype=like.dtype, device=like.device)

    def _enumerated(self, values: Tensor, expand: bool) -> Tensor:
        """enumerate_support() of scalar values."""
        values = values.view((-1,) + (1,) * len(self._batch_shape))
        return values.expand((-1,) + self._batch_shape) if expand else values

    def __repr__(self) -> str:
        own = {k: self.__dict__[k] for k in self.arg_constraints if k in self.__dict__}
        args = ", ".join([f"{k}: {v if v.numel() == 1 else v.size()}" for k, v in own.items()])
        return f"{type(self).__name__}({args})"


def _last(shape: Size, n: int) -> Size:
    return shape[len(shape) - n:]
