"""Requests of tensors: what is let through, and what a refusal says."""

import json
import struct
from typing import Any

import pytest

from localmodel.api.predict import Signature, TensorSpec
from localmodel.gateway import errors
from localmodel.gateway.tensors import Infer, ones, parse_infer

X = TensorSpec(name="x", datatype="FP32", shape=(-1, 2))
IDS = TensorSpec(name="ids", datatype="INT16", shape=(-1, -1))
Y = TensorSpec(name="y", datatype="FP32", shape=(-1,))
SIGNATURE = Signature(inputs=(X,), outputs=(Y,), batched=True).wire()
TWO = Signature(inputs=(X, IDS), outputs=(Y,), batched=True).wire()


def tensor(**changes: Any) -> dict[str, Any]:
    made = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2.5], **changes}
    return {key: value for key, value in made.items() if value is not None}


def parse(document: dict[str, Any], tail: bytes = b"", signature: Signature = SIGNATURE, length: str | None = "") -> Infer:
    head = json.dumps(document).encode()
    told = str(len(head)) if length == "" else length
    return parse_infer(head + tail, told if tail or length else None, signature, 4)


@pytest.mark.parametrize(
    "given",
    [
        tensor(),
        tensor(shape=[2, 2], data=[[1, 2], [3, 4]]),
        tensor(shape=[2, 2], data=[1, 2, 3, 4]),
        tensor(shape=[4, 2], data=[0.5] * 8),
    ],
    ids=str,
)
def test_values_in_json(given: dict[str, Any]) -> None:
    body = {"id": "a", "inputs": [given], "outputs": [{"name": "y", "parameters": {"binary_data": True}}]}
    assert parse(body) == Infer(None, given["shape"][0])


def test_values_in_binary_are_left_where_they_are() -> None:
    given = tensor(data=None, parameters={"binary_data_size": 8})
    document = {"inputs": [given], "parameters": {"binary_data_output": True}}
    assert parse(document, struct.pack("<2f", 1, 2)) == Infer(len(json.dumps(document)), 1)


TAKES = "this model takes x FP32 [-1, 2]"
WRONG: list[tuple[dict[str, Any], bytes, str]] = [
    ({"inputs": [tensor(shape=[1, 3], data=[1, 2, 3])]}, b"", f"Input 'x' has the shape [1, 3]; {TAKES}."),
    ({"inputs": [tensor(shape=[2])]}, b"", f"Input 'x' has the shape [2]; {TAKES}."),
    ({"inputs": [tensor(shape=[0, 2], data=[])]}, b"", TAKES),
    ({"inputs": [tensor(shape="1,2")]}, b"", TAKES),
    ({"inputs": [tensor(shape=[True, 2])]}, b"", TAKES),
    ({"inputs": [tensor(datatype="FP64")]}, b"", f"Input 'x' has the datatype \"FP64\"; {TAKES}."),
    ({"inputs": [tensor(datatype=None)]}, b"", "has the datatype null"),
    ({"inputs": [tensor(name="z")]}, b"", "'inputs' names \"z\". This model has x FP32 [-1, 2], each once."),
    ({"inputs": [tensor(), tensor()]}, b"", "each once"),
    ({"inputs": []}, b"", "Input 'x' is missing. This model takes x FP32 [-1, 2]."),
    ({}, b"", "'inputs' must be a list of objects"),
    ({"inputs": [1]}, b"", "'inputs' must be a list of objects"),
    ({"inputs": [tensor(data=[1])]}, b"", "has 1 values in 'data'; its shape needs a list of 2"),
    ({"inputs": [tensor(data=["1", 2])]}, b"", "values in 'data' that are no FP32"),
    ({"inputs": [tensor(data=[True, 2])]}, b"", "values in 'data' that are no FP32"),
    ({"inputs": [tensor(data=5)]}, b"", "needs a list of 2"),
    ({"inputs": [tensor(data=None)]}, b"", "needs either 'data' or"),
    ({"inputs": [tensor(parameters={"binary_data_size": 8})]}, b"", "needs either 'data' or"),
    ({"inputs": [tensor(shape=[5, 2], data=[0] * 10)]}, b"", "from 1 to 4"),
    ({"inputs": [tensor(data=None, parameters={"binary_data_size": 4})]}, b"1234", "FP32 [1, 2] are 8 bytes"),
    ({"inputs": [tensor(data=None, parameters={"binary_data_size": 8})]}, b"1234", "8 bytes together, but 4 follow"),
    ({"inputs": [tensor(data=None, parameters={"binary_data_size": True})]}, b"1", "must be a whole number"),
    ({"inputs": [tensor()]}, b"1234", "0 bytes together, but 4 follow"),
    ({"inputs": [tensor(parameters={"shared_memory_region": "a"})]}, b"", "not shared_memory_region"),
    ({"inputs": [tensor()], "parameters": {"sequence_id": 1}}, b"", "not sequence_id"),
    ({"inputs": [tensor()], "parameters": {"binary_data_output": 1}}, b"", "must be true or false"),
    ({"inputs": [tensor()], "outputs": [{"name": "z"}]}, b"", "This model has y FP32 [-1, 1]"),
    ({"inputs": [tensor()], "outputs": [{"name": "y", "parameters": {"classification": 2}}]}, b"", "not classification"),
    ({"inputs": [tensor()], "model": "x"}, b"", "'model' is not known here"),
    ({"inputs": [tensor(raw=1)]}, b"", "Input 'x': 'raw' is not known here"),
    ({"inputs": [tensor()], "id": 5}, b"", "'id' must be a text"),
]


@pytest.mark.parametrize(("document", "tail", "message"), WRONG, ids=[f"{n}" for n in range(len(WRONG))])
def test_refused_with_what_is_taken(document: dict[str, Any], tail: bytes, message: str) -> None:
    with pytest.raises(errors.ApiError) as refused:
        parse(document, tail)
    assert refused.value.status == 400
    assert message in refused.value.message


@pytest.mark.parametrize("length", ["-1", "x", "1e3", "999999", "", "٣"])
def test_a_length_that_is_none(length: str) -> None:
    with pytest.raises(errors.ApiError, match="inference-header-content-length"):
        parse_infer(b"{}", length, SIGNATURE, 4)


@pytest.mark.parametrize(("datatype", "data"), [("UINT8", [256]), ("UINT8", [-1]), ("INT64", [2**63]), ("INT8", [1.0]),
                                                ("BOOL", [1]), ("FP16", [1.0]), ("FP32", [1e39]), ("FP32", [-10**40]),
                                                ("FP64", [10**309])])  # fmt: skip
def test_values_that_the_type_does_not_hold(datatype: Any, data: list[Any]) -> None:
    signature = Signature(inputs=(TensorSpec(name="x", datatype=datatype, shape=(1,)),), outputs=(Y,))
    with pytest.raises(errors.ApiError, match=datatype):
        parse({"inputs": [tensor(datatype=datatype, shape=[1], data=data)]}, signature=signature)


def test_a_number_that_no_float_holds() -> None:
    body = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1e999, 1]}]}'
    with pytest.raises(errors.ApiError, match="no FP32"):
        parse_infer(body, None, SIGNATURE, 4)


@pytest.mark.parametrize(("datatype", "value"), [("FP32", 3.4028234663852886e38), ("FP32", -(2**127)), ("FP64", 1.7e308)])
def test_the_largest_values(datatype: Any, value: float) -> None:
    signature = Signature(inputs=(TensorSpec(name="x", datatype=datatype, shape=(1,)),), outputs=(Y,))
    parse({"inputs": [tensor(datatype=datatype, shape=[1], data=[value])]}, signature=signature)


def test_rows_must_be_the_same_for_all_inputs() -> None:
    ids = {"name": "ids", "datatype": "INT16", "shape": [2, 3], "data": [1] * 6}
    assert parse({"inputs": [ids, tensor(shape=[2, 2], data=[1] * 4)]}, signature=TWO).rows == 2
    with pytest.raises(errors.ApiError, match="same number of rows"):
        parse({"inputs": [ids, tensor()]}, signature=TWO)


def test_ones_are_a_request_that_is_let_through() -> None:
    body, length = ones(TWO, [(1, 2), (1, 3)])
    assert parse_infer(body, str(length), TWO, 4) == Infer(length, 1)
    assert struct.unpack("<2f3h", body[length:]) == (1, 1, 1, 1, 1)
    flat = Signature(inputs=(Y,), outputs=(Y,), batched=True).wire()
    body, length = ones(flat, [(1,)])
    assert json.loads(body[:length])["inputs"][0]["shape"] == [1, 1]
    assert parse_infer(body, str(length), flat, 4).rows == 1
