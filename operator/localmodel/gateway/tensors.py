"""A request for inference in the open inference protocol, compared with what the model takes; and one of ones.

Pure. What is let through is exactly what was understood: an unknown member, a tensor of another type or shape, or bytes that
belong to nobody are refused with a sentence that says what the model takes. Nothing is rebuilt, so a large body is not copied.
"""

import json
import math
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from localmodel.api.predict import DataType, Signature, TensorSpec, count_bytes
from localmodel.gateway import errors, strict_json

_ONES: dict[DataType, bytes] = {
    "BOOL": b"\1", "UINT8": b"\1", "INT8": b"\1", "INT16": b"\1\0", "INT32": b"\1\0\0\0", "INT64": b"\1" + b"\0" * 7,
    "FP16": b"\0\x3c", "FP32": b"\0\0\x80\x3f", "FP64": b"\0" * 6 + b"\xf0\x3f",
}  # fmt: skip
_INTEGERS: dict[DataType, tuple[int, int]] = {
    "UINT8": (0, 2**8 - 1), "INT8": (-(2**7), 2**7 - 1), "INT16": (-(2**15), 2**15 - 1), "INT32": (-(2**31), 2**31 - 1),
    "INT64": (-(2**63), 2**63 - 1),
}  # fmt: skip
_TOO_LARGE: dict[DataType, int] = {"FP32": 2**128 - 2**103, "FP64": 2**1024 - 2**970}
"""Rounded to the nearest, it would be infinite."""
_BODY = frozenset({"id", "inputs", "outputs", "parameters"})
_INPUT = frozenset({"name", "datatype", "shape", "data", "parameters"})
_OUTPUT = frozenset({"name", "parameters"})


class Infer(NamedTuple):
    header_length: int | None
    """Bytes of JSON before the binary tensors; None if all of it is JSON."""
    rows: int


def parse_infer(body: bytes, header_length: str | None, signature: Signature, most_rows: int) -> Infer:
    """`signature`: as clients see it. Raises ApiError 400."""
    length = _length(header_length, body)
    document = strict_json.parse_object(body if length is None else body[:length])
    _refuse_unknown(document, _BODY, "")
    if not isinstance(document.get("id", ""), str):
        raise _wrong("'id' must be a text.")
    _parameters(document, "binary_data_output", bool, "")
    given = _by_name(document.get("inputs"), "inputs", signature.inputs)
    if missing := [tensor for tensor in signature.inputs if tensor.name not in given]:
        raise _wrong(f"Input '{missing[0].name}' is missing. This model takes {_all(signature.inputs)}.", "inputs")
    sizes = [_check_input(given[tensor.name], tensor) for tensor in signature.inputs]
    binary, there = sum(size for _, size in sizes), 0 if length is None else len(body) - length
    if binary != there:
        raise _wrong(f"The inputs' binary_data_size are {binary} bytes together, but {there} follow the JSON.", "inputs")
    if "outputs" in document:
        for name, output in _by_name(document["outputs"], "outputs", signature.outputs).items():
            _refuse_unknown(output, _OUTPUT, f"Output '{name}': ")
            _parameters(output, "binary_data", bool, f"Output '{name}': ")
    rows = {shape[0] for shape, _ in sizes}
    if signature.batched and (len(rows) > 1 or max(rows) > most_rows):
        raise _wrong(f"The first size of all inputs must be the same number of rows, from 1 to {most_rows}.", "inputs")
    return Infer(length, max(rows))


def ones(signature: Signature, shapes: Iterable[tuple[int, ...]]) -> tuple[bytes, int]:
    """A body of binary tensors, and the length of its JSON. `shapes`: the network's own."""
    inputs, tensors = [], []
    for tensor, own in zip(signature.inputs, shapes, strict=True):
        shape = (*own, 1) if len(own) < len(tensor.shape) else own
        tensors.append(_ONES[tensor.datatype] * math.prod(shape))
        size = {"binary_data_size": len(tensors[-1])}
        inputs.append({"name": tensor.name, "datatype": tensor.datatype, "shape": shape, "parameters": size})
    header = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    return header + b"".join(tensors), len(header)


def _length(header_length: str | None, body: bytes) -> int | None:
    if header_length is None:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", header_length) or int(header_length) > len(body):
        raise _wrong("'inference-header-content-length' must be the number of bytes of JSON at the beginning of the body.")
    return int(header_length)


def _check_input(given: dict[str, Any], tensor: TensorSpec) -> tuple[tuple[int, ...], int]:
    """Its shape, and how many binary bytes it has."""
    where, takes = f"Input '{tensor.name}'", f"this model takes {tensor.describe()}"
    _refuse_unknown(given, _INPUT, f"{where}: ")
    if given.get("datatype") != tensor.datatype:
        raise _wrong(f"{where} has the datatype {_shown(given.get('datatype'))}; {takes}.", "inputs")
    shape = given.get("shape")
    if not isinstance(shape, list) or not all(type(size) is int for size in shape) or not tensor.fits(tuple(shape)):
        raise _wrong(f"{where} has the shape {_shown(shape)}; {takes}.", "inputs")
    size = _parameters(given, "binary_data_size", int, f"{where}: ")
    if (size is None) == ("data" not in given):
        raise _wrong(f"{where} needs either 'data' or 'parameters': {{'binary_data_size': ...}}.", "inputs")
    if size is None:
        _check_values(given["data"], tensor, math.prod(shape), where)
        return tuple(shape), 0
    expected = count_bytes(tensor.datatype, tuple(shape))
    if size != expected:
        raise _wrong(f"{where} has a binary_data_size of {size}, but {tensor.datatype} {shape} are {expected} bytes.", "inputs")
    return tuple(shape), expected


def _check_values(data: Any, tensor: TensorSpec, count: int, where: str) -> None:
    values = [data]
    while any(type(each) is list for each in values):
        values = [inner for each in values for inner in (each if type(each) is list else [each])]
    if type(data) is not list or len(values) != count:
        raise _wrong(f"{where} has {len(values)} values in 'data'; its shape needs a list of {count}.", "inputs")
    kinds = set(map(type, values))
    if tensor.datatype == "FP16":
        raise _wrong(f"{where} is FP16, which JSON can't carry: send it as binary data.", "inputs")
    if tensor.datatype == "BOOL":
        good = kinds <= {bool}
    elif tensor.datatype in _INTEGERS:
        low, high = _INTEGERS[tensor.datatype]
        good = kinds <= {int} and low <= min(values) and max(values) <= high
    else:
        limit = _TOO_LARGE[tensor.datatype]
        good = kinds <= {int, float} and -limit < min(values) and max(values) < limit
    if not good:
        raise _wrong(f"{where} has values in 'data' that are no {tensor.datatype}.", "inputs")


def _by_name(entries: Any, place: str, known: tuple[TensorSpec, ...]) -> dict[str, dict[str, Any]]:
    if not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
        raise _wrong(f"'{place}' must be a list of objects. This model has {_all(known)}.", place)
    found: dict[str, dict[str, Any]] = {}
    for each in entries:
        name = each.get("name")
        if not isinstance(name, str) or name in found or name not in {tensor.name for tensor in known}:
            raise _wrong(f"'{place}' names {_shown(name)}. This model has {_all(known)}, each once.", place)
        found[name] = each
    return found


def _parameters(owner: dict[str, Any], known: str, kind: type, where: str) -> Any:
    """The one parameter that is understood there; None without it."""
    parameters = owner.get("parameters", {})
    if not isinstance(parameters, dict) or not set(parameters) <= {known}:
        others = ", ".join(sorted(set(parameters) - {known}))[:100] if isinstance(parameters, dict) else _shown(parameters)
        raise _wrong(f"{where}'parameters' may hold '{known}' only, not {others}.", "parameters")
    value = parameters.get(known)
    if known in parameters and type(value) is not kind:
        raise _wrong(f"{where}'{known}' must be {'true or false' if kind is bool else 'a whole number'}.", "parameters")
    return value


def _refuse_unknown(document: dict[str, Any], known: frozenset[str], where: str) -> None:
    if unknown := sorted(set(document) - known):
        raise _wrong(f"{where}'{unknown[0][:64]}' is not known here; leave it out.", unknown[0][:64])


def _all(tensors: tuple[TensorSpec, ...]) -> str:
    return ", ".join(tensor.describe() for tensor in tensors)


def _shown(value: Any) -> str:
    return json.dumps(value)[:100]


def _wrong(message: str, param: str | None = None) -> errors.ApiError:
    return errors.bad_request(message, param, "invalid_tensor")
