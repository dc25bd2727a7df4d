"""Kernels that begin while others still run: each waits, and touches nothing but weights before."""

import ast
import re
from pathlib import Path

import pytest

from localmodel import engine

SOURCES = {
    file: ast.parse(file.read_text()) for file in Path(engine.__path__[0]).glob("*.py") if "wait_for_inputs(" in file.read_text()
}
CONSTANT = {"weight", "scales", "minima", "bias"}
"""What no kernel writes."""
NUMBERS = {"N", "M", "splits", "epsilon", "biased", "whole"}


def kernels():
    return [
        pytest.param(function, id=f"{file.stem}.{function.name}")
        for file, tree in SOURCES.items()
        for function in tree.body
        if isinstance(function, ast.FunctionDef) and function.name.endswith("_kernel")
    ]


def waits(statement):
    return isinstance(statement, ast.Expr) and ast.unparse(statement) == "wait_for_inputs(OVERLAP)"


@pytest.mark.parametrize("function", kernels())
def test_before_it_waits_a_kernel_touches_only_weights(function):
    places = [number for number, statement in enumerate(function.body) if waits(statement)]
    assert len(places) == 1, "it waits once, whatever it is asked for"
    given = {argument.arg for argument in function.args.args if argument.annotation is None}
    before = {node.id for statement in function.body[: places[0]] for node in ast.walk(statement) if isinstance(node, ast.Name)}
    assert (before & given) - NUMBERS <= CONSTANT


def test_every_kernel_that_begins_before_its_turn_waits():
    launched = set()
    for file in Path(engine.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            called = isinstance(node, ast.Call) and ast.unparse(node.func) == "launch"
            if called and any(keyword.arg == "overlap" for keyword in node.keywords):
                launched |= {each.id for each in ast.walk(node.args[0]) if isinstance(each, ast.Name) and "kernel" in each.id}
    assert launched - {parameter.values[0].name for parameter in kernels()} == {"product_kernel"}
    assert len(launched) == 12


def test_the_kernel_of_several_groups_of_warps_waits_where_it_loads_x():
    source = (Path(engine.__path__[0]) / "weight_hopper_kernel.py").read_text()
    loads = source[source.index("def _load(") : source.index("def _multiply(")]
    assert loads.index("load_tile(weight") < loads.index("gdc_wait()") < loads.index("load_tile(x")
    assert source.count("gdc_wait()") == 1
    before = source[source.index("for item in", source.index("def _compute(")) :].partition("mbarrier.wait(filled")[0]
    assert "gl.load(scales" in before
    assert not re.search(r"store|partials|output|rows|results", before), "written, or read, while kernels ahead run"
