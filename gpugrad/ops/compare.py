"""Comparisons and logic, and what chooses by them: where, masks, maximum, clamp."""
from __future__ import annotations

from gpugrad.autograd.op import composite, op
from gpugrad.autograd.rules import g_dtype
from gpugrad.dtypes import type_name

# Bool results, no gradients -----------------------------------------------------------------------


def ordered(ufunc, x, y, name):
    """A ufunc that compares, of real numbers: NumPy puts complex ones in an order too."""
    if x.dtype.kind == "c":
        raise NotImplementedError(f"\"{name}_cpu\" not implemented for '{type_name(x.dtype)}': "
                                  "complex numbers have no order")
    return ufunc(x, y)


def of_integers(ufunc, x, y, kinds, name):
    """A ufunc of bits, for dtypes of these kinds."""
    if x.dtype.kind not in kinds:
        raise NotImplementedError(f"\"{name}_cpu\" not implemented for '{type_name(x.dtype)}': it "
                                  "takes integers")
    return ufunc(x, y)


@op(promote=True)
class eq:
    binary, ufunc = True, "equal"


@op(promote=True)
class ne:
    binary, ufunc = True, "not_equal"


@op(promote=True)
class lt:
    binary = True
    def forward(be, x, y):
        return ordered(be.xp.less, x, y, "lt")


@op(promote=True)
class le:
    binary = True
    def forward(be, x, y):
        return ordered(be.xp.less_equal, x, y, "le")


@op(promote=True)
class gt:
    binary = True
    def forward(be, x, y):
        return ordered(be.xp.greater, x, y, "gt")


@op(promote=True)
class ge:
    binary = True
    def forward(be, x, y):
        return ordered(be.xp.greater_equal, x, y, "ge")


@op(promote=True, inplace=True)
class logical_and:
    binary, ufunc = True, "logical_and"


@op(promote=True, inplace=True)
class logical_or:
    binary, ufunc = True, "logical_or"


@op(promote=True, inplace=True)
class logical_xor:
    binary, ufunc = True, "logical_xor"


@op(inplace=True)
class logical_not:
    ufunc = "logical_not"


@op(promote=True, inplace=True)
class bitwise_and:
    binary = True
    def forward(be, x, y):
        return of_integers(be.xp.bitwise_and, x, y, "iub", "bitwise_and")


@op(promote=True, inplace=True)
class bitwise_or:
    binary = True
    def forward(be, x, y):
        return of_integers(be.xp.bitwise_or, x, y, "iub", "bitwise_or")


@op(promote=True, inplace=True)
class bitwise_xor:
    binary = True
    def forward(be, x, y):
        return of_integers(be.xp.bitwise_xor, x, y, "iub", "bitwise_xor")


@op(inplace=True)
class bitwise_not:
    ufunc = "invert"


@op(promote=True, inplace=True)
class bitwise_left_shift:
    binary = True
    def forward(be, x, y):
        return of_integers(be.xp.left_shift, x, y, "iu", "lshift")


@op(promote=True, inplace=True)
class bitwise_right_shift:
    binary = True
    def forward(be, x, y):
        return of_integers(be.xp.right_shift, x, y, "iu", "rshift")


@op()
class isnan:
    ufunc = "isnan"


@op()
class isinf:
    ufunc = "isinf"


@op()
class isfinite:
    ufunc = "isfinite"


# Choosing ----------------------------------------------------------------------------------------


@op("WhereBackward0", fit=True)
class where:
    """x where the condition holds, else y; x and y of one dtype."""
    def forward(be, condition, x, y):
        return be.xp.where(condition, x, y)
    grad_condition = None
    def grad_x(o, g, condition):
        return o.keep_where(g, condition)
    def grad_y(o, g, condition):
        return o.drop_where(g, condition)


@op("MaskedFillBackward0", fit=True)
class keep_where:
    """x where the mask holds, else 0; unlike a product it lets no infinity or NaN through."""
    def forward(be, x, mask):
        return be.keep(x, mask)
    grad_mask = None
    def grad_x(o, g, mask):
        return o.keep_where(g, mask)


@op("MaskedFillBackward0", fit=True)
class drop_where:
    """0 where the mask holds, else x."""
    def forward(be, x, mask):
        return be.drop(x, mask)
    grad_mask = None
    def grad_x(o, g, mask):
        return o.drop_where(g, mask)


@op("MaskedFillBackward0", fit=True, inplace=True)
class masked_fill:
    """A number where the mask holds, else x."""
    def forward(be, x, mask, *, value):
        return be.xp.where(mask, be.number[value, x.dtype], x)
    grad_mask = None
    def grad_x(o, g, mask):
        return o.drop_where(g, mask)


@op("MaskedFillBackward1", fit=True, inplace=True)
class masked_fill_with:
    """The one element of value where the mask holds, else x."""
    def forward(be, x, mask, value):
        return be.xp.where(mask, value, x)
    grad_mask = None
    def grad_x(o, g, mask):
        return o.drop_where(g, mask)
    def grad_value(o, g, mask):
        return o.keep_where(g, mask)


# Extremes ----------------------------------------------------------------------------------------


@op("MaximumBackward0", promote=True)
class maximum:
    """The larger of two; where they are equal each gets half of the gradient."""
    def forward(be, x, y):
        if x.dtype.kind == "c":
            raise RuntimeError("maximum not implemented for complex tensors.")
        return be.xp.maximum(x, y)
    def grad_x(o, g, x, y):
        return o.share_of_extreme(g, o.lt(x, y), o.eq(x, y))
    def grad_y(o, g, x, y):
        return o.share_of_extreme(g, o.gt(x, y), o.eq(x, y))


@op("MinimumBackward0", promote=True)
class minimum:
    """The smaller of two; where they are equal each gets half of the gradient."""
    def forward(be, x, y):
        if x.dtype.kind == "c":
            raise RuntimeError("minimum not implemented for complex tensors.")
        return be.xp.minimum(x, y)
    def grad_x(o, g, x, y):
        return o.share_of_extreme(g, o.gt(x, y), o.eq(x, y))
    def grad_y(o, g, x, y):
        return o.share_of_extreme(g, o.lt(x, y), o.eq(x, y))


@composite
def share_of_extreme(o, g, lost, tie):
    """g, half of it at ties, 0 where lost: where one is NaN, both get g."""
    return o.drop_where(o.where(tie, o.scale(g, number=0.5), g), lost)


@op("ClampBackward1", inplace=True)
class clamp:
    """x held between two numbers, either of which may be None. At a bound the gradient is 1."""
    def forward(be, x, *, min=None, max=None):
        refuse_complex(x)
        if min is not None:
            x = be.xp.maximum(x, be.number[min, x.dtype])
        if max is not None:
            x = be.xp.minimum(x, be.number[max, x.dtype])
        return x
    def grad_x(o, g, x, min, max):
        return o.keep_within(g, x, min, max)


def refuse_complex(x):
    if x.dtype.kind == "c":
        raise NotImplementedError("clamp is not supported for complex types")


@op("ClampMinBackward0", inplace=True)
class clamp_min:
    """clamp with a lower bound alone, whose node has a name of its own. So have the next three."""
    def forward(be, x, *, min):
        refuse_complex(x)
        return be.xp.maximum(x, be.number[min, x.dtype])
    def grad_x(o, g, x, min):
        return o.keep_within(g, x, min, None)


@op("ClampMaxBackward0", inplace=True)
class clamp_max:
    """x, or the number max where x is above it."""
    def forward(be, x, *, max):
        refuse_complex(x)
        return be.xp.minimum(x, be.number[max, x.dtype])
    def grad_x(o, g, x, max):
        return o.keep_within(g, x, None, max)


@composite
def keep_within(o, g, x, min, max):
    """g where x is within two bounds, numbers or tensors or None, else 0."""
    if min is not None:
        g = o.keep_where(g, o.ge(x, rounded(min, x)))
    return g if max is None else o.keep_where(g, o.le(x, rounded(max, x)))


def rounded(bound, x):
    """A number in the dtype of x, which NumPy does itself for its own dtypes, but not bfloat16."""
    return g_dtype(x).type(bound) if type(bound) in (int, float) else bound


@op("ClampBackward0", fit=True, inplace=True)
class clamp_between:
    """x held between two tensors, either of which may be None. At a bound x gets the gradient."""
    def forward(be, x, min=None, max=None):
        refuse_complex(x)
        if min is not None:
            x = be.xp.maximum(x, min)
        if max is not None:
            x = be.xp.minimum(x, max)
        return x
    def grad_x(o, g, x, min, max):
        return o.keep_within(g, x, min, max)
    def grad_min(o, g, x, min, max):
        below = o.lt(x, min)
        return o.keep_where(g, below if max is None else o.logical_and(below, o.lt(min, max)))
    def grad_max(o, g, x, min, max):
        above = o.gt(x, max)
        return o.keep_where(g, above if min is None else o.logical_or(above, o.lt(max, min)))


@op("ClampMinBackward1", fit=True, inplace=True)
class clamp_min_tensor:
    """x, or the tensor min where x is below it."""
    def forward(be, x, min):
        refuse_complex(x)
        return be.xp.maximum(x, min)
    def grad_x(o, g, x, min):
        return o.keep_within(g, x, min, None)
    def grad_min(o, g, x, min):
        return o.keep_where(g, o.lt(x, min))


@op("ClampMaxBackward1", fit=True, inplace=True)
class clamp_max_tensor:
    """x, or the tensor max where x is above it."""
    def forward(be, x, max):
        refuse_complex(x)
        return be.xp.minimum(x, max)
    def grad_x(o, g, x, max):
        return o.keep_within(g, x, None, max)
    def grad_max(o, g, x, max):
        return o.keep_where(g, o.gt(x, max))
