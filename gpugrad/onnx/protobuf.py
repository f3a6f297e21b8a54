"""ONNX models as bytes: the few messages of its protobuf format that a graph of operators needs."""
from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

import numpy as np

# TensorProto.DataType by the name of NumPy's dtype.
DTYPES = {name: number for number, name in enumerate(
    ("", "float32", "uint8", "int8", "uint16", "int16", "int32", "int64", "", "bool", "float16",
     "float64", "uint32", "uint64", "", "", "bfloat16")) if name}


def data_type(dtype: Any) -> int:
    """ONNX's number for a NumPy dtype; NotImplementedError if it has none."""
    number = DTYPES.get(np.dtype(dtype).name)
    if number is None:
        raise NotImplementedError(f"torch.onnx.export: ONNX has no operators on {dtype} tensors")
    return number


def varint(n: int) -> bytes:
    n &= (1 << 64) - 1                           # negative numbers in two's complement
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def message(*fields: tuple[int, Any]) -> bytes:
    """A message of (number, value): an int, a float, bytes, text, or a list of those; None: absent.
    """
    out = []
    for number, value in fields:
        for v in value if isinstance(value, list | tuple) else () if value is None else (value,):
            if isinstance(v, float):
                out.append(varint(number << 3 | 5) + struct.pack("<f", v))
            elif isinstance(v, int):
                out.append(varint(number << 3) + varint(v))
            else:
                data = v.encode() if isinstance(v, str) else v
                out += [varint(number << 3 | 2), varint(len(data)), data]
    return b"".join(out)


def tensor(name: str, a: Any) -> bytes:
    """A TensorProto: shape, dtype and the elements as they lie in memory, least byte first."""
    # (ascontiguousarray makes one dim of none.)
    data = np.asarray(a, order="C").astype(a.dtype.newbyteorder("<"), copy=False)
    return message((1, list(a.shape)), (2, data_type(a.dtype)), (8, name), (9, data.tobytes()))


def attribute(name: str, value: Any) -> bytes:
    if isinstance(value, bool | int):
        return message((1, name), (3, int(value)), (20, 2))
    if isinstance(value, float):
        return message((1, name), (2, value), (20, 1))
    if isinstance(value, str):
        return message((1, name), (4, value), (20, 3))
    if isinstance(value, np.ndarray):
        return message((1, name), (5, tensor("", value)), (20, 4))
    if value and isinstance(value[0], str):
        return message((1, name), (9, list(value)), (20, 8))
    if value and isinstance(value[0], float):
        return message((1, name), (7, list(value)), (20, 6))
    return message((1, name), (8, [int(v) for v in value]), (20, 7))


def node(op: str, inputs: Iterable[str], outputs: Iterable[str], name: str,
         attributes: dict[str, Any]) -> bytes:
    return message((1, list(inputs)), (2, list(outputs)), (3, name), (4, op),
                   (5, [attribute(k, v) for k, v in attributes.items()]))


def value_info(name: str, dtype: Any, shape: Iterable[int | str]) -> bytes:
    """A graph's input or output; a dim is a size, or the name of a size that varies."""
    dims = [message((2 if isinstance(n, str) else 1, n)) for n in shape]
    return message((1, name), (2, message((1, message((1, data_type(dtype)),
                                                      (2, message((1, dims))))))))


def model(graph: bytes, opset: int, version: str) -> bytes:
    ir = 8 if opset < 19 else 9 if opset < 21 else 10
    return message((1, ir), (2, "gpugrad"), (3, version), (7, graph), (8, message((2, opset))))


def graph(name: str, nodes: list[bytes], initializers: list[bytes], inputs: list[bytes],
          outputs: list[bytes]) -> bytes:
    return message((1, nodes), (2, name), (5, initializers), (11, inputs), (12, outputs))
