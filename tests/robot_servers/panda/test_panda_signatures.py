"""The fake of panda-python cannot drift from the library: what it offers has the library's names and arguments."""

import inspect
import re

import fake_panda
import panda_py
import pytest
from panda_py import controllers, libfranka

PAIRS = [
    (fake_panda.Panda, panda_py.Panda),
    (fake_panda.CartesianImpedance, controllers.CartesianImpedance),
    (fake_panda.JointPosition, controllers.JointPosition),
    (fake_panda.Model, libfranka.Model),
    (fake_panda.Robot, libfranka.Robot),
    (fake_panda.RobotState, libfranka.RobotState),
    (fake_panda.Duration, libfranka.Duration),
]
MADE_BY_THE_LIBRARY = (fake_panda.Model, fake_panda.Robot, fake_panda.RobotState, fake_panda.Duration)


def split_arguments(text):
    """Split at the commas outside all brackets."""
    parts, depth, part = [], 0, ""
    for letter in text:
        depth += {"[": 1, "(": 1, "<": 1, "]": -1, ")": -1, ">": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            parts.append(part)
            part = ""
        else:
            part += letter
    return [*parts, part]


def documented(name, text):
    """Return the argument lists, as (name, has default), of every overload in a pybind11 docstring."""
    overloads = []
    for found in re.finditer(rf"^(?:\d+\. )?{name}\((self: .*)\) -> ", text.replace("->  ", "-> "), re.MULTILINE):
        arguments = [argument.strip() for argument in split_arguments(found[1])][1:]
        overloads.append([(argument.split(":")[0], "=" in argument.split(":", 1)[1]) for argument in arguments])
    return overloads


def one_line(text):
    """Join the lines that numpy's arrays make of a default value."""
    return re.sub(r"\n\s*(?=[\[\d])(?!\d+\. )", " ", text)


@pytest.mark.parametrize(("fake", "real"), PAIRS, ids=lambda kind: kind.__name__)
def test_every_method_of_the_fake_has_a_signature_of_the_library(fake, real):
    methods = [name for name, value in vars(fake).items() if callable(value) and name != "move"]
    if fake in MADE_BY_THE_LIBRARY:
        methods.remove("__init__") if "__init__" in methods else None
    assert methods or fake is fake_panda.RobotState
    for name in methods:
        given = list(inspect.signature(getattr(fake, name)).parameters.values())[1:]
        arguments = [(argument.name, argument.default is not argument.empty) for argument in given]
        overloads = documented(name, one_line(getattr(real, name).__doc__))
        assert overloads, f"{real.__name__}.{name} has no documented signature"
        # An optional last argument may be left out by the fake, never one that is needed.
        fits = [o for o in overloads if o[: len(arguments)] == arguments and all(has for _, has in o[len(arguments) :])]
        assert fits, f"{real.__name__}.{name}{arguments}: the library has {overloads}"


def test_every_reading_of_the_fake_state_is_a_property_of_the_library():
    names = vars(fake_panda.RobotState(fake_panda.FakeArm()))
    assert names
    for name in names:
        assert isinstance(getattr(libfranka.RobotState, name), property)


def test_signatures_are_really_compared():
    assert documented("f", "f(self: A, b: list[int, int], c: float = 1.0) -> None") == [[("b", False), ("c", True)]]
    assert documented("f", "1. f(self: A) -> None\n\n2. f(self: A, b: int) -> int") == [[], [("b", False)]]
    real = documented("set_load", libfranka.Robot.set_load.__doc__)
    assert real == [[("load_mass", False), ("F_x_Cload", False), ("load_inertia", False)]]
