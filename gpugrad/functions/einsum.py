"""einsum: sums of products named by letters, and chains of products in the cheapest order."""
from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from gpugrad._state import state
from gpugrad._tensor import Tensor
from gpugrad.autograd.rules import tensors as T
from gpugrad.functions.arguments import common
from gpugrad.functions.matmul import matmul

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
ELLIPSIS = "..."
# Up to so many operands the best order is looked for; of more the cheapest pair is taken each time.
FEW = 6

Labels = list[Any]      # letters, numbers of the sublist form, and negative numbers for "..."


# Reading -----------------------------------------------------------------------------------------


def subscripts_of(text: str, where: str) -> Labels:
    """The letters of one operand or of the output; ELLIPSIS for "..."."""
    out: Labels = []
    i = 0
    while i < len(text):
        c = text[i]
        if c == " ":
            i += 1
        elif c == ".":
            if text[i:i + 3] != ELLIPSIS:
                raise RuntimeError(f"einsum(): found '.' {where} that is not part of any ellipsis")
            if ELLIPSIS in out:
                raise RuntimeError(f"einsum(): found '.' {where} for which an ellipsis was already "
                                   "found")
            out.append(ELLIPSIS)
            i += 3
        elif c in LETTERS:
            out.append(c)
            i += 1
        else:
            raise RuntimeError(f"einsum(): invalid subscript given at index {i} in the equation "
                               "string, subscripts must be in [a-zA-Z]")
    return out


def parse(equation: str) -> tuple[list[Labels], Labels | None]:
    """The labels of the operands, and of the output if it is there."""
    left, arrow, right = equation.partition("->")
    ins = [subscripts_of(part, f"for operand {i}") for i, part in enumerate(left.split(","))]
    return ins, subscripts_of(right, "for the output") if arrow else None


def parse_sublists(args: tuple[Any, ...]) -> tuple[list[Tensor], list[Labels], Labels | None]:
    """The form einsum(tensor, [0, 1], tensor, [1, 2], ..., [0, 2])."""
    tensors, ins = list(args[0::2]), list(args[1::2])
    out = tensors.pop() if len(args) % 2 else None
    return tensors, [sublist(s) for s in ins], None if out is None else sublist(out)


def sublist(labels: Any) -> Labels:
    out: Labels = []
    for v in labels:
        if v is not Ellipsis and not (isinstance(v, int) and 0 <= v < 52):
            raise ValueError("einsum(): not within the valid range [0, 52): each entry of a "
                             f"subscripts list must be an int in it or an Ellipsis, not {v!r}")
        out.append(ELLIPSIS if v is Ellipsis else LETTERS[v])
    return out


def spelled_out(ins: list[Labels], out: Labels | None,
                operands: list[Tensor]) -> tuple[list[Labels], Labels]:
    """The labels with "..." replaced by -k, ..., -1, and an output where none was given."""
    if len(operands) != len(ins):
        fewer = "fewer" if len(operands) < len(ins) else "more"
        raise RuntimeError(f"einsum(): {fewer} operands were provided than specified in the "
                           "equation")
    full, most = [], 0
    for i, (labels, x) in enumerate(zip(ins, operands)):
        named, n = len([v for v in labels if v != ELLIPSIS]), x._a.ndim
        if ELLIPSIS not in labels and named != n:
            raise RuntimeError(f"einsum(): the number of subscripts in the equation ({named}) does "
                               f"not match the number of dimensions ({n}) for operand {i} and no "
                               "ellipsis was given")
        if named > n:
            raise RuntimeError(f"einsum(): the number of subscripts in the equation ({named}) is "
                               f"more than the number of dimensions ({n}) for operand {i}")
        most = max(most, n - named if ELLIPSIS in labels else 0)
        full.append(expanded(labels, n - named))
    if out is None:
        every = [v for labels in full for v in labels if not isinstance(v, int)]
        return full, [*range(-most, 0), *sorted({v for v in every if every.count(v) == 1})]
    out = expanded(out, most)
    for v in out:
        if out.count(v) > 1:
            raise RuntimeError(f"einsum(): output subscript {v} appears more than once in the "
                               "output")
        if not any(v in labels for labels in full):
            raise RuntimeError(f"einsum(): output subscript {v} does not appear in the equation "
                               "for any input operand")
    return full, out


def expanded(labels: Labels, n: int) -> Labels:
    if ELLIPSIS not in labels:
        return labels
    at = labels.index(ELLIPSIS)
    return [*labels[:at], *range(-n, 0), *labels[at + 1:]]


# Contracting -------------------------------------------------------------------------------------


def of_one(x: Tensor, labels: Labels) -> tuple[Tensor, Labels]:
    """A repeated label of one operand stands for its diagonal."""
    while len(set(labels)) < len(labels):
        v = next(v for v in labels if labels.count(v) > 1)
        i = labels.index(v)
        j = labels.index(v, i + 1)
        if x._a.shape[i] != x._a.shape[j]:
            raise RuntimeError(f"einsum(): subscript {v} is repeated for operand but the sizes "
                               f"don't match, {x._a.shape[j]} != {x._a.shape[i]}")
        x = T.diagonal(x, offset=0, dim1=i, dim2=j)
        labels = [w for k, w in enumerate(labels) if k not in (i, j)] + [v]
    return x, labels


def summed(x: Tensor, labels: Labels, keep: set[Any]) -> tuple[Tensor, Labels]:
    """The sum over the labels that nobody else has."""
    gone = tuple(i for i, v in enumerate(labels) if v not in keep)
    if not gone:
        return x, labels
    return T.sum(x, dim=gone), [v for v in labels if v in keep]


def pair(a: Tensor, la: Labels, b: Tensor, lb: Labels, keep: set[Any]) -> tuple[Tensor, Labels]:
    """The product of two operands, summed over what isn't kept, as one batched product."""
    a, la = summed(a, la, keep | set(lb))
    b, lb = summed(b, lb, keep | set(la))
    size = dict(zip([*la, *lb], [*a._a.shape, *b._a.shape]))
    for v in set(la) & set(lb):                  # a dim of 1 is broadcast
        n, m = a._a.shape[la.index(v)], b._a.shape[lb.index(v)]
        size[v] = n if m == 1 else m
        if n != m and v not in keep:             # then the other one is summed alone
            one, labels = (a, la) if n != 1 else (b, lb)
            one = T.sum(one, dim=(labels.index(v),), keepdim=True)
            a, b = (one, b) if n != 1 else (a, one)
            size[v] = 1
    batch = [v for v in la if v in lb and v in keep]
    inner = [v for v in la if v in lb and v not in keep]
    rows, columns = [v for v in la if v not in lb], [v for v in lb if v not in la]
    if a._a.dtype != b._a.dtype:                 # a sum of integers is wider
        a, b = common(a, b)
    x = arranged(a, la, [*batch, *rows, *inner])
    y = arranged(b, lb, [*batch, *inner, *columns])
    n, k = len(batch), math.prod([size[v] for v in inner])
    left = [x._a.shape[i] for i in range(n)]
    right = [y._a.shape[i] for i in range(n)]
    result = [*batch, *rows, *columns]
    if not inner:                                # nothing to sum: products of elements
        x = x.reshape([*x._a.shape, *[1] * len(columns)])
        y = y.reshape([*right, *[1] * len(rows), *y._a.shape[n:]])
        return x * y, result
    x = x.reshape([*left, math.prod([size[v] for v in rows]), k])
    y = y.reshape([*right, k, math.prod([size[v] for v in columns])])
    if n and left != right:                      # broadcast batches, before they become one dim
        full = [size[v] for v in batch]
        x, y = x.expand(*full, *x._a.shape[-2:]), y.expand(*full, *y._a.shape[-2:])
    if n > 1:
        x, y = x.reshape([-1 if x._a.size else math.prod(x._a.shape[:n]), *x._a.shape[n:]]), \
            y.reshape([-1 if y._a.size else math.prod(y._a.shape[:n]), *y._a.shape[n:]])
    out = matmul(x, y)
    return out.reshape([size[v] for v in result]), result


def arranged(x: Tensor, labels: Labels, order: Labels) -> Tensor:
    return x if labels == order else x.permute([labels.index(v) for v in order])


def cost(la: Any, lb: Any, keep: set[Any], size: dict[Any, int]) -> tuple[int, frozenset[Any]]:
    """How many products a pair takes, and the labels of what it leaves."""
    both = la | lb
    return math.prod([size[v] for v in both]), frozenset(v for v in both if v in keep)


def order_of(ins: list[Labels], out: Labels, size: dict[Any, int]) -> list[tuple[int, int]]:
    """Which pairs to multiply: places in a list from which a pair goes, its product to the end."""
    sets = [frozenset(labels) for labels in ins]
    if len(sets) > FEW:
        return greedy(sets, out, size)
    best: tuple[float, list[tuple[int, int]]] = (math.inf, [])

    def search(left: list[Any], path: list[tuple[int, int]], paid: int) -> None:
        nonlocal best
        if paid >= best[0]:
            return
        if len(left) == 1:
            best = (paid, path)
            return
        for i, j in itertools.combinations(range(len(left)), 2):
            rest = [s for k, s in enumerate(left) if k not in (i, j)]
            price, labels = cost(left[i], left[j], set(out).union(*rest), size)
            search([*rest, labels], [*path, (i, j)], paid + price)
    search(sets, [], 0)
    return best[1]


def greedy(sets: list[Any], out: Labels, size: dict[Any, int]) -> list[tuple[int, int]]:
    path = []
    while len(sets) > 1:
        choices = []
        for i, j in itertools.combinations(range(len(sets)), 2):
            rest = [s for k, s in enumerate(sets) if k not in (i, j)]
            choices.append((*cost(sets[i], sets[j], set(out).union(*rest), size), i, j, rest))
        _, labels, i, j, rest = min(choices, key=lambda c: c[0])
        path.append((i, j))
        sets = [*rest, labels]
    return path


def contract(operands: list[Tensor], ins: list[Labels], out: Labels) -> Tensor:
    size: dict[Any, int] = {}
    parts = [of_one(x, labels) for x, labels in zip(operands, ins)]
    for i, (x, labels) in enumerate(parts):
        for v, n in zip(labels, x._a.shape):
            if size.get(v, 1) not in (1, n) and n != 1:
                raise RuntimeError(f"einsum(): subscript {v} has size {n} for operand {i} which "
                                   f"does not broadcast with previously seen size {size[v]}")
            size[v] = n if size.get(v, 1) == 1 else size[v]
    for i, j in order_of([labels for _, labels in parts], out, size) if len(parts) > 1 else ():
        (a, la), (b, lb) = parts[i], parts[j]
        parts = [p for k, p in enumerate(parts) if k not in (i, j)]
        keep = set(out).union(*[labels for _, labels in parts])
        parts.append(pair(a, la, b, lb, keep))
    x, labels = summed(*parts[0], set(out))
    return arranged(x, labels, out)


def einsum(*args: Any) -> Tensor:
    """Sums of products: einsum("ij,jk->ik", a, b), or einsum(a, [0, 1], b, [1, 2], [0, 2]).

    Each letter names a dim, "..." those that are left and broadcast. A letter that the output lacks
    is summed over; without an output, that are those that stand there more than once. Several
    operands are multiplied in the order that takes the fewest products.
    """
    if len(args) < 2:
        raise ValueError("einsum(): must specify the equation string and at least one operand, or "
                         "at least one operand and its subscripts list")
    out: Labels | None
    if isinstance(args[0], Tensor):
        operands, ins, out = parse_sublists(args)
    else:
        operands = list(args[1]) if len(args) == 2 and isinstance(args[1], Sequence) else \
            list(args[1:])
        ins, out = parse(args[0])
    labels, result = spelled_out(ins, out, operands)
    if len({x._a.dtype for x in operands}) > 1 and len(operands) == 2 and state.casting is None:
        raise RuntimeError("einsum(): expected operands of the same dtype, but got "
                           + " and ".join(x.dtype.name for x in operands))
    x = contract(operands, labels, result)
    same = any(x is given for given in operands)
    return T.permute(x, dims=tuple(range(x._a.ndim))) if same else x


# Chains ------------------------------------------------------------------------------------------


def chain_matmul(*matrices: Tensor) -> Tensor:
    """The product of several matrices, in the order that takes the fewest multiplications."""
    if len(matrices) == 1 and isinstance(matrices[0], Sequence):
        matrices = tuple(matrices[0])
    if not matrices:
        raise RuntimeError("chain_matmul(): Expected one or more matrices")
    for i, m in enumerate(matrices):
        if m._a.ndim != 2:
            raise RuntimeError(f"Tensor {i} has to be 2-dimensional, but got {m._a.ndim}D: "
                               "chain_matmul() multiplies matrices")
    return T.clone(matrices[0]) if len(matrices) == 1 else multi_dot(matrices)


def multi_dot(tensors: Sequence[Tensor]) -> Tensor:
    """chain_matmul, in which the first and the last tensor may be vectors."""
    ts = list(tensors)
    n = len(ts)
    if n < 2:
        raise RuntimeError(f"multi_dot(): expected at least 2 tensors but got {n}")
    for i, x in enumerate(ts):
        wanted = (1, 2) if i in (0, n - 1) else (2,)
        if x._a.ndim not in wanted:
            raise RuntimeError(f"multi_dot(): tensor {i} must be "
                               f"{'1D or 2D' if len(wanted) > 1 else '2D'} but got {x._a.ndim}D")
    first, last = ts[0]._a.ndim == 1, ts[-1]._a.ndim == 1
    ts[0] = T.unsqueeze(ts[0], dim=0) if first else ts[0]
    ts[-1] = T.unsqueeze(ts[-1], dim=1) if last else ts[-1]
    for i in range(n - 1):
        if ts[i]._a.shape[1] != ts[i + 1]._a.shape[0]:
            raise RuntimeError(f"multi_dot(): tensors {i} and {i + 1} with shapes "
                               f"{list(ts[i]._a.shape)} and {list(ts[i + 1]._a.shape)} cannot be "
                               "multiplied")
    sizes = [ts[0]._a.shape[0], *[t._a.shape[1] for t in ts]]
    out = product_of(ts, cheapest(sizes), 0, n - 1)
    out = T.squeeze(out, dim=(1,)) if last else out
    return T.squeeze(out, dim=(0,)) if first else out


def cheapest(sizes: list[int]) -> dict[tuple[int, int], int]:
    """Where to split each part of a chain of matrices of sizes[i] by sizes[i + 1]."""
    n = len(sizes) - 1
    price: dict[tuple[int, int], int] = {(i, i): 0 for i in range(n)}
    at: dict[tuple[int, int], int] = {}
    for length in range(1, n):
        for i in range(n - length):
            j = i + length
            price[i, j], at[i, j] = min(
                (price[i, k] + price[k + 1, j] + sizes[i] * sizes[k + 1] * sizes[j + 1], k)
                for k in range(i, j))
    return at


def product_of(ts: list[Tensor], at: dict[tuple[int, int], int], i: int, j: int) -> Tensor:
    if i == j:
        return ts[i]
    k = at[i, j]
    return T.mm(product_of(ts, at, i, k), product_of(ts, at, k + 1, j))
