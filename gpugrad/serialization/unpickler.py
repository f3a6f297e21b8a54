"""A reader of pickles that runs nothing: opcodes and globals come from closed lists.

Python's own unpickler can be talked into calling anything, and into allocating memory for sizes
that a file only claims. This one knows the opcodes of protocols 2 to 5 that data is made of. A
global is a Builder or plain data from the table it is given, or a class or function that the user
trusts. Only Builders, which check what they get, and what is trusted are called. How much they may
build is bounded by the length of the pickle.
"""
from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable, Collection
from pickle import UnpicklingError
from typing import Any

_SCALARS = {str, bytes, int, float, bool, complex, type(None)}


class Builder:
    """Something that a pickle may call."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call


def globals_of(pickled: bytes) -> list[tuple[str, str]]:
    """The globals that a pickle names, as pairs of module and name; nothing of it is carried out.
    """
    found: list[tuple[str, str]] = []
    texts: list[Any] = []                        # what was pushed of late: a name is two texts
    memo: dict[int, Any] = {}
    try:
        ops: Any = pickletools.genops(pickled)
        for op, arg, _ in ops:
            if op.name in ("GLOBAL", "INST"):
                module, name = arg.split(" ", 1)
                found.append((module, name))
            elif op.name == "STACK_GLOBAL":
                found.append((str(texts[-2]), str(texts[-1])))
            elif op.name == "MEMOIZE":
                memo[len(memo)] = texts[-1] if texts else None
            elif "PUT" in op.name:
                memo[arg] = texts[-1] if texts else None
            elif "GET" in op.name:
                texts.append(memo.get(arg))
            elif op.name not in ("FRAME", "PROTO"):
                texts.append(arg)
            del texts[:-2]
    except (ValueError, IndexError, struct.error, OverflowError) as error:
        raise UnpicklingError(f"the pickle is damaged: {error}") from error
    return found


class _Mark:
    pass


_MARK = _Mark()


class Unpickler:
    """Reads one object from the bytes of a pickle.

    find(module, name) gives what a global stands for, persistent(id) what a persistent id does;
    build(object, state) applies the state of an object and returns False if it may not have one.
    trusted: classes and functions that may be called.
    Errors: EOFError where the pickle ends too early, UnpicklingError for anything else.
    """

    def __init__(self, data: bytes, find: Callable[[str, str], Any],
                 persistent: Callable[[Any], Any], build: Callable[[Any, Any], bool],
                 trusted: Collection[Any] = ()) -> None:
        self._data, self._at = data, 0
        self._trusted = trusted
        self._find, self._persistent, self._build = find, persistent, build
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        # What is built honestly has been read before: some bytes of the pickle for each element.
        self._budget = 4 * len(data) + 1024

    def load(self) -> Any:
        while True:
            op = self._take(1)
            if op == b".":
                break
            step = _STEPS.get(op)
            if step is None:
                raise UnpicklingError(f"Unsupported operand {op[0]}")
            try:
                step(self)
            except (IndexError, KeyError, TypeError, ValueError, AttributeError, struct.error,
                    OverflowError) as error:
                raise UnpicklingError(f"the pickle is damaged at byte {self._at}: "
                                      f"{type(error).__name__}: {error}") from error
        if len(self._stack) != 1 or self._stack[0] is _MARK:
            raise UnpicklingError("the pickle is damaged: it doesn't end with one object")
        return self._stack[0]

    def spend(self, n: int) -> None:
        """Account for n elements that a Builder makes."""
        self._budget -= n
        if self._budget < 0:
            raise UnpicklingError("the pickle builds more than its length warrants")

    def trusts(self, made: Any) -> bool:
        """May it be called?"""
        return any([made is one for one in self._trusted])

    def checked_keys(self, items: Any, depth: int = 0) -> Any:
        """``items``, which are going to be hashed.

        Hashing a tuple hashes all that is in it: nested deeply or repeated often, that never ends.
        """
        for x in items:
            self.spend(1)
            if type(x) is tuple:
                if depth == 4:
                    raise UnpicklingError("the pickle has a key nested too deeply")
                self.checked_keys(x, depth + 1)
            elif type(x) not in _SCALARS:
                hash(x)                          # raises TypeError for lists and dicts
        return items

    # Reading -------------------------------------------------------------------------------------

    def _take(self, n: int) -> bytes:
        start, self._at = self._at, self._at + n
        if n < 0 or self._at > len(self._data):
            raise EOFError("Ran out of input: the pickle is cut off")
        return self._data[start:self._at]

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _line(self) -> str:
        end = self._data.find(b"\n", self._at)
        if end < 0:
            raise EOFError("Ran out of input: the pickle is cut off")
        line, self._at = self._data[self._at:end], end + 1
        return line.decode("utf-8")

    # The stack -----------------------------------------------------------------------------------

    def _push(self, x: Any) -> None:
        self._stack.append(x)

    def _pop(self) -> Any:
        x = self._stack.pop()
        if x is _MARK:
            raise ValueError("a mark where an object should be")
        return x

    def _pop_to_mark(self) -> list[Any]:
        stack = self._stack
        i = len(stack) - 1
        while stack[i] is not _MARK:
            i -= 1
            if i < 0:
                raise ValueError("no mark")
        items = stack[i + 1:]
        del stack[i:]
        return items

    def _top(self, kind: type) -> Any:
        x = self._stack[-1]
        if not isinstance(x, kind):
            raise TypeError(f"a {type(x).__name__} where a {kind.__name__} should be")
        return x

    # Opcodes -------------------------------------------------------------------------------------

    def _proto(self) -> None:
        version = self._number("B")
        if not 2 <= version <= 5:
            raise ValueError(f"pickle protocol {version}")

    def _frame(self) -> None:
        self._take(8)                            # a hint for readers of streams

    def _integer(self, size: int) -> None:
        self._push(int.from_bytes(self._take(size), "little", signed=True))

    def _text(self, form: str) -> None:
        self._push(self._take(self._number(form)).decode("utf-8", "surrogatepass"))

    def _bytes(self, form: str) -> None:
        self._push(self._take(self._number(form)))

    def _bytearray(self) -> None:
        self._push(bytearray(self._take(self._number("<Q"))))

    def _tuple(self, n: int) -> None:
        items = tuple(self._pop() for _ in range(n))
        self._push(items[::-1])

    def _append(self) -> None:
        x = self._pop()
        self._top(list).append(x)

    def _appends(self) -> None:
        items = self._pop_to_mark()
        self._top(list).extend(items)

    def _put_items(self, items: list[Any]) -> None:
        held = self._top(dict)
        for k, v in zip(self.checked_keys(items[::2]), items[1::2], strict=True):
            held[k] = v

    def _setitem(self) -> None:
        value, key = self._pop(), self._pop()
        self._put_items([key, value])

    def _additems(self) -> None:
        items = self._pop_to_mark()
        self._top(set).update(self.checked_keys(items))

    def _frozenset(self) -> None:
        self._push(frozenset(self.checked_keys(self._pop_to_mark())))

    def _get(self, form: str) -> None:
        self._push(self._memo[self._number(form)])

    def _put(self, form: str) -> None:
        self._memo[self._number(form)] = self._top(object)

    def _memoize(self) -> None:
        self._memo[len(self._memo)] = self._top(object)

    def _global(self) -> None:
        module = self._line()
        self._push(self._find(module, self._line()))

    def _stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        if not (type(name) is type(module) is str):
            raise TypeError("a global without a name")
        self._push(self._find(module, name))

    def _reduce(self) -> None:
        args, made = self._pop(), self._pop()
        call = made.call if isinstance(made, Builder) else made
        if (call is made and not self.trusts(made)) or type(args) is not tuple:
            raise TypeError(f"a {type(made).__name__} can't be called")
        self._push(call(*args))

    def _newobj(self) -> None:
        args, made = self._pop(), self._pop()
        if not isinstance(made, type) or not self.trusts(made) or type(args) is not tuple:
            raise TypeError("an object of a class that is not allowed")
        self._push(made.__new__(made, *args))

    def _set_state(self) -> None:
        state = self._pop()
        if not self._build(self._top(object), state):
            raise TypeError(f"a {type(self._stack[-1]).__name__} with a state")

    def _persid(self) -> None:
        self._push(self._persistent(self._pop()))


_U = Unpickler
_STEPS: dict[bytes, Callable[[Unpickler], Any]] = {
    b"\x80": _U._proto,
    b"\x95": _U._frame,
    b"(": lambda u: u._push(_MARK),
    b"0": _U._pop,
    b"1": _U._pop_to_mark,
    b"N": lambda u: u._push(None),
    b"\x88": lambda u: u._push(True),
    b"\x89": lambda u: u._push(False),
    b"K": lambda u: u._push(u._number("B")),
    b"M": lambda u: u._push(u._number("<H")),
    b"J": lambda u: u._integer(4),
    b"\x8a": lambda u: u._integer(u._number("B")),
    b"\x8b": lambda u: u._integer(u._number("<i")),
    b"G": lambda u: u._push(u._number(">d")),
    b"U": lambda u: u._text("B"),
    b"T": lambda u: u._text("<i"),
    b"\x8c": lambda u: u._text("B"),
    b"X": lambda u: u._text("<I"),
    b"\x8d": lambda u: u._text("<Q"),
    b"C": lambda u: u._bytes("B"),
    b"B": lambda u: u._bytes("<I"),
    b"\x8e": lambda u: u._bytes("<Q"),
    b"\x96": _U._bytearray,
    b")": lambda u: u._push(()),
    b"\x85": lambda u: u._tuple(1),
    b"\x86": lambda u: u._tuple(2),
    b"\x87": lambda u: u._tuple(3),
    b"t": lambda u: u._push(tuple(u._pop_to_mark())),
    b"]": lambda u: u._push([]),
    b"a": _U._append,
    b"e": _U._appends,
    b"}": lambda u: u._push({}),
    b"s": _U._setitem,
    b"u": lambda u: u._put_items(u._pop_to_mark()),
    b"\x8f": lambda u: u._push(set()),
    b"\x90": _U._additems,
    b"\x91": _U._frozenset,
    b"h": lambda u: u._get("B"),
    b"j": lambda u: u._get("<I"),
    b"q": lambda u: u._put("B"),
    b"r": lambda u: u._put("<I"),
    b"\x94": _U._memoize,
    b"c": _U._global,
    b"\x93": _U._stack_global,
    b"R": _U._reduce,
    b"\x81": _U._newobj,
    b"b": _U._set_state,
    b"Q": _U._persid,
}
