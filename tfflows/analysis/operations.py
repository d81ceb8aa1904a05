r"""Counts the floating-point operations of a function, in what XLA makes of it.

`count` translates a function to XLA's operations, for the shapes of its arguments, and adds up
those that its results depend on:

    dot           2 x output elements x contracted elements
    convolution   2 x pairs of output and input elements that the kernel connects: no padding, none
                  of the zeros of strided gradients
    elementwise   1 an output element of arithmetic, roots, exponentials, logarithms, and so on
    reduction     1 an element that is added
    fft           5 N log2 N, half of it if one side is real
    triangular-solve, cholesky    n^2 an equation, n^3 / 3
    QR            2 n^2 (m - n/3) for its reflectors, and as many for Q if that is needed

of real numbers; complex sums count 2, complex products 6. Integers, comparisons, choices,
conversions and moves count nothing. It is a count of the mathematics before XLA optimises it: no
fusion, no common subexpressions found, and so a bound on neither side of what a device executes.

What it can't know, it says: the body of a loop is counted once, since the number of iterations
depends on the data, and other calls of libraries, such as eigenvalues, count nothing.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

_ARITHMETIC = {
    *("abs", "add", "atan2", "cbrt", "ceil", "clamp", "cosine", "divide", "erf", "exponential"),
    *("exponential-minus-one", "floor", "log", "log-plus-one", "logistic", "maximum", "minimum"),
    *("multiply", "negate", "power", "remainder", "round-nearest-afz", "round-nearest-even"),
    *("rsqrt", "sign", "sine", "sqrt", "subtract", "tan", "tanh"),
}
_SHAPE = re.compile(r"\b(pred|[a-z]+\d+\w*)\[([\d,]*)\]")
_CALLED = re.compile(r"(?:to_apply|body|condition)=%?([\w.\-]+)")
_BRANCHES = re.compile(
    r"(?:branch_computations=\{([^}]*)\}|(?:true|false)_computation=([%\w.\-]+))"
)


@dataclasses.dataclass(frozen=True)
class Count:
    """What `count` found.

    Attributes:
      operations: floating-point operations, the body of each loop once.
      loops: number of loops with floating-point operations in them: if there are any, more
        operations are executed than counted.
      unknown: names of the libraries' functions whose operations are not known.
    """

    operations: int = 0
    loops: int = 0
    unknown: frozenset[str] = frozenset()

    def __add__(self, other: "Count") -> "Count":
        return Count(
            self.operations + other.operations,
            self.loops + other.loops,
            self.unknown | other.unknown,
        )


@dataclasses.dataclass(frozen=True)
class _Instruction:
    """A line of HLO; a shape is a dtype and a list of sizes."""

    name: str
    shapes: list
    opcode: str
    inputs: list
    operands: list
    attributes: str


def count(function: Callable, *args: Any) -> Count:
    """Returns the floating-point operations of a call.

    Args:
      function: a function of tensors, or a `tf.function`, that XLA can compile. It is traced, not
        executed.
      *args: its arguments: their shapes count.

    Example:
        >>> x = tf.ones([3, 4])
        >>> count(lambda x: tf.tanh(x @ tf.ones([4, 5])), x).operations  # 2 x 3 x 4 x 5 + 3 x 5
        135
    """
    # A lambda: TensorFlow can't tell what XLA makes of a function with default arguments.
    # Traced anew, as what XLA compiles: a graph for TensorFlow may have assertions.
    function = getattr(function, "python_function", function)
    compiled = tf.function(lambda *args: function(*args), jit_compile=True, autograph=False)
    return count_hlo(compiled.experimental_get_compiler_ir(*args)(stage="hlo"))


def count_hlo(text: str) -> Count:
    """Returns the operations of the entry computation of a module of HLO, as text."""
    computations, entry = _parse(text)

    @functools.cache
    def of_computation(name):
        instructions = computations[name]
        return sum(map(of_instruction, _needed(instructions)), Count())

    def of_instruction(instruction):
        called = _CALLED.findall(instruction.attributes)
        if instruction.opcode == "call":
            return of_computation(called[0])
        if instruction.opcode == "while":
            body = sum(map(of_computation, called), Count())
            return dataclasses.replace(body, loops=body.loops + (body.operations > 0))
        if instruction.opcode == "conditional":
            branches = map(of_computation, _branches(instruction.attributes))
            return max(branches, key=lambda branch: branch.operations)
        if instruction.opcode == "custom-call":
            return _of_library(instruction)
        return Count(_operations(instruction))

    return of_computation(entry)


def _of_library(instruction: _Instruction) -> Count:
    """Returns the operations of a call of a library: of the two of a QR decomposition, m x n."""
    target = re.search(r'custom_call_target="([^"]*)"', instruction.attributes)[1]
    if target not in ("Qr", "ProductOfElementaryHouseholderReflectors"):
        return Count(unknown=frozenset([target]))
    *batch, m, n = instruction.shapes[0][1]
    m, n = max(m, n), min(m, n)
    return Count(math.prod(batch) * round(2 * n * n * (m - n / 3)))


def _operations(instruction: _Instruction) -> int:
    """Returns the operations of an instruction that calls no other."""
    opcode, (dtype, shape) = instruction.opcode, instruction.shapes[0]
    if not re.match(r"(b?f|c)\d", dtype):
        return 0
    size, is_complex = math.prod(shape), dtype.startswith("c")
    if opcode in _ARITHMETIC:
        return size * ({"multiply": 6, "divide": 6}.get(opcode, 2) if is_complex else 1)
    first = instruction.inputs[0][1] if instruction.inputs else []
    if opcode == "dot":
        contracted = _numbers("lhs_contracting_dims", instruction.attributes)
        return (8 if is_complex else 2) * size * math.prod(first[d] for d in contracted)
    if opcode == "convolution":
        return 2 * _connections(instruction)
    if opcode in ("reduce", "reduce-window", "select-and-scatter"):
        if opcode != "reduce":
            window = re.search(r"size=([\dx]+)", instruction.attributes)[1]
            return size * math.prod(map(int, window.split("x")))
        return max(0, math.prod(first) - size) * (2 if is_complex else 1)
    if opcode == "fft":
        lengths = _numbers("fft_length", instruction.attributes)
        points = max(size, math.prod(first))
        cost = 5 * points * math.log2(math.prod(lengths))
        kind = re.search(r"fft_type=(\w+)", instruction.attributes)[1]
        return round(cost / 2 if kind in ("RFFT", "IRFFT") else cost)
    if opcode == "triangular-solve":
        return size * first[-1]
    if opcode == "cholesky":
        return size * shape[-1] // 3
    return 0


def _connections(instruction: _Instruction) -> int:
    """Returns the number of products of a convolution whose factors are both elements."""
    (_, image), (_, kernel) = instruction.inputs[:2]
    _, output = instruction.shapes[0]
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", instruction.attributes).groups()
    of_image, of_kernel, of_output = (
        dict(zip(text, sizes, strict=True))
        for text, sizes in zip(labels, (image, kernel, output), strict=True)
    )
    window = re.search(r"window=\{([^}]*)\}", instruction.attributes)
    parts = dict(p.split("=") for p in window[1].split()) if window else {}
    pairs = 1
    for number in range(len(image) - 2):
        key = str(number)

        def setting(name, default, number=number):
            return parts[name].split("x")[number] if name in parts else default

        low = int(setting("pad", "0_0").split("_")[0])
        stride, spread, dilation = (
            int(setting(name, 1)) for name in ("stride", "lhs_dilate", "rhs_dilate")
        )
        outputs, taps = np.arange(of_output[key]), np.arange(of_kernel[key])
        position = outputs[:, np.newaxis] * stride + taps * dilation - low
        inside = (position >= 0) & (position <= (of_image[key] - 1) * spread)
        pairs *= int(np.sum(inside & (position % spread == 0)))
    return pairs * of_output["b"] * of_output["f"] * of_kernel["i"]


def _numbers(name: str, attributes: str) -> list[int]:
    found = re.search(rf"{name}=\{{([\d,]*)\}}", attributes)
    return [int(n) for n in found[1].split(",") if n] if found else []


def _branches(attributes: str) -> list[str]:
    groups = _BRANCHES.findall(attributes)
    return [name.strip(" %") for either in groups for name in max(either).split(",")]


def _needed(instructions: list[_Instruction]) -> list[_Instruction]:
    """Returns the instructions that the last one, the result, depends on."""
    by_name = {instruction.name: instruction for instruction in instructions}
    waiting, needed = [instructions[-1].name], {}
    while waiting:
        name = waiting.pop()
        if name in by_name and name not in needed:
            needed[name] = by_name[name]
            waiting += by_name[name].operands
    return list(needed.values())


def _parse(text: str) -> tuple[dict[str, list[_Instruction]], str]:
    """Returns the instructions of each computation, the result last, and the entry's name."""
    computations: dict[str, list[_Instruction]] = {}
    entry = current = root = None
    for line in text.splitlines():
        header = re.match(r"(ENTRY )?%?([\w.\-]+) .*\{$", line)
        if header and not line.startswith((" ", "HloModule")):
            current = computations[header[2]] = []
            entry = header[2] if header[1] else entry
        elif found := re.match(r"\s+(ROOT )?%?([\w.\-]+) = (.*)$", line):
            current.append(_instruction(found[2], found[3]))
            root = current[-1] if found[1] else root
        elif line.startswith("}"):
            current.remove(root)
            current.append(root)
    return computations, entry


def _instruction(name: str, text: str) -> _Instruction:
    """Parses `TYPE opcode(operands), attributes`; types may be nested tuples."""
    end = _closing(text, 0) + 1 if text.startswith("(") else text.index(" ")
    opcode, _, _ = text[end:].strip().partition("(")
    start = text.index("(", end)
    stop = _closing(text, start)
    operands = text[start + 1 : stop]
    return _Instruction(
        name,
        _shapes(text[:end]) or [("token", [])],
        opcode,
        _shapes(operands),
        re.findall(r"%([\w.\-]+)", operands),
        text[stop + 1 :],
    )


def _shapes(text: str) -> list[tuple[str, list[int]]]:
    return [(d, [int(n) for n in sizes.split(",") if n]) for d, sizes in _SHAPE.findall(text)]


def _closing(text: str, start: int) -> int:
    """Returns the position of the bracket that closes the one at `start`."""
    depth = 0
    for position in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[position], 0)
        if depth == 0:
            return position
    raise ValueError(f"HLO must have matching brackets. Received: {text[start : start + 80]!r}.")
