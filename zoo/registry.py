"""What a name stands for: an architecture, its arguments and how it is trained."""

import dataclasses
import difflib
import inspect
import math
import numbers
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow_probability as tfp

from zoo import columns

tfd = tfp.distributions


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a model is trained by default; flags of `trainers.train` override it.

    Attributes:
      dataset: name of the data set, as `trainers.data` knows it.
      batch_size: global batch size.
      steps: number of optimiser steps.
      optimizer: `"adam"` or `"adamax"`.
      learning_rate: peak learning rate.
      beta_2: decay of the second moment.
      warmup_steps: steps over which the learning rate rises from 0.
      warmup_power: 1 if it rises linearly, 2 if as the square of the step.
      decay: `"linear"` or `"cosine"` to 0 at the last step, or a factor by which the rate falls
        every `decay_steps`.
      decay_steps: see `decay`; `None` for an epoch.
      final_learning_rate: the rate does not fall below it.
      clip: the largest norm of the gradient.
      weight_decay: part of the rate by which all weights shrink at every step (AdamW).
      flip: whether images are mirrored at random.
      ema: momentum of the moving average of the weights; 0 for none.
      condition: what of the data the model is conditional on: `"label"`; `None` for nothing.
      context_dropout: part of the events that are given no condition, for `tfflows.guide`.

    #### Example

    ```python
    import zoo

    recipe = zoo.Recipe(dataset="digits", batch_size=64, steps=500, optimizer="adamax")
    ```
    """

    dataset: str
    batch_size: int
    steps: int
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    beta_2: float = 0.999
    warmup_steps: int = 100
    warmup_power: float = 1.0
    decay: str | float = "linear"
    decay_steps: int | None = None
    final_learning_rate: float = 0.0
    clip: float | None = 1.0
    weight_decay: float = 0.0
    flip: bool = False
    ema: float = 0.0
    condition: str | None = None
    context_dropout: float = 0.0

    def __post_init__(self) -> None:
        """Refuses what no run can follow, whatever file or flag it is from."""
        for name, (what, holds) in _ENTRIES.items():
            value = getattr(self, name)
            if not holds(value):
                raise ValueError(
                    f"`{name}` of a recipe must be {what}. Received: {name}={value!r}."
                )


def _is_number(value, least=0.0, most=math.inf):
    kind = isinstance(value, (int, float)) and not isinstance(value, bool)
    return kind and math.isfinite(value) and least <= value <= most


def _is_integer(value, least):
    return isinstance(value, int) and _is_number(value, least)


# What each entry of a recipe has to be, in words and as a function.
_ENTRIES = {
    "dataset": ("a text", lambda v: isinstance(v, str)),
    "batch_size": ("a positive integer", lambda v: _is_integer(v, 1)),
    "steps": ("a positive integer", lambda v: _is_integer(v, 1)),
    "optimizer": ('"adam" or "adamax"', lambda v: v in ("adam", "adamax")),
    "learning_rate": ("a number, 0 or more", _is_number),
    "beta_2": ("a number from 0 to less than 1", lambda v: _is_number(v, 0, 1) and v < 1),
    "warmup_steps": ("an integer, 0 or more", lambda v: _is_integer(v, 0)),
    "warmup_power": ("a number, 0 or more", _is_number),
    "decay": (
        '"linear", "cosine" or a number from 0 to 1',
        lambda v: v in ("linear", "cosine") or _is_number(v, 0, 1),
    ),
    "decay_steps": ("a positive integer or null", lambda v: v is None or _is_integer(v, 1)),
    "final_learning_rate": ("a number, 0 or more", _is_number),
    "clip": ("a positive number or null", lambda v: v is None or (_is_number(v) and v > 0)),
    "weight_decay": ("a number from 0 to 1", lambda v: _is_number(v, 0, 1)),
    "flip": ("true or false", lambda v: isinstance(v, bool)),
    "ema": ("a number from 0 to 1", lambda v: _is_number(v, 0, 1)),
    "context_dropout": (
        "a number from 0 to less than 1",
        lambda v: _is_number(v, 0, 1) and v < 1,
    ),
    "condition": ("a text or null", lambda v: v is None or (isinstance(v, str) and v != "")),
}


@dataclasses.dataclass(frozen=True)
class Kind:
    """What the events of a model are: said once, where it is registered.

    Attributes:
      noun: several events, in words.
      rank: of an event.
      units: of a score, as `tfflows.FlowModel` names them.
      label: the units, for people.
      definition: the score, as a formula.
      is_discrete: whether the events are integers, and the model is trained as a `Dequantized`. Of
        rows of a table some columns may be: `tfflows.distributions.is_discrete(model)` says so.
      get_event_shape: returns the shape of an event, given the arguments of a builder.
    """

    noun: str
    rank: int
    units: str
    label: str
    definition: str
    is_discrete: bool
    get_event_shape: Callable[[Mapping], tuple[int, ...]]

    @property
    def event(self) -> str:
        """One event, in a word."""
        return self.noun.split()[0].removesuffix("s")

    def nats(self, event_shape: Sequence[int]) -> float:
        """Returns how many nats of an event of this shape a unit of its score is."""
        if self.is_discrete:
            return math.log(2) * math.prod(event_shape)
        return event_shape[0] if self == SETS else 1

    def describe(self, event_shape: Sequence[int], num_levels: int | None = None) -> str:
        """Returns what data of this kind are like, in words."""
        levels = f" with {num_levels} values" if self.is_discrete else ""
        return f"{self.noun} {list(event_shape)}{levels}"


# Functions with names, so that a kind goes to other processes and is the same there.


def _image_shape(arguments):
    return tuple(arguments["image_shape"])


def _point_shape(arguments):
    return tuple(arguments.get("event_shape", (2,)))


def _set_shape(arguments):
    return arguments["num_nodes"], arguments["num_features"]


def _row_shape(arguments):
    return (len(columns.as_list(arguments["columns"])),)


IMAGES = Kind(
    noun="images",
    rank=3,
    units="bits_per_dim",
    label="bits/dim",
    definition="-log2 P(x) / D",
    is_discrete=True,
    get_event_shape=_image_shape,
)
"""Images `[H, W, C]` of integers."""
POINTS = Kind(
    noun="points",
    rank=1,
    units="nats",
    label="nats",
    definition="-log p(x)",
    is_discrete=False,
    get_event_shape=_point_shape,
)
"""Points `[D]`."""
SETS = Kind(
    noun="sets of nodes",
    rank=2,
    units="nats_per_node",
    label="nats/node",
    definition="-log p(x) / k of k nodes",
    is_discrete=False,
    get_event_shape=_set_shape,
)
"""Sets of nodes `[N, F]`, or the nodes of a graph."""
TABLES = Kind(
    noun="rows",
    rank=1,
    units="nats",
    label="nats",
    definition="-log p(x)",
    is_discrete=False,
    get_event_shape=_row_shape,
)
"""Rows of a table."""
KINDS = (IMAGES, POINTS, SETS, TABLES)


@dataclasses.dataclass(frozen=True)
class Model:
    """An entry of the zoo.

    Attributes:
      name: `architecture.dataset_variant`.
      builder: makes the distribution that is trained from `arguments` and `seed`: a `Dequantized`
        one for images.
      arguments: keyword arguments of the builder, of types that JSON knows.
      kind: what its events are.
      recipe: how to train it.
      summary: one line for people.
      paper: where the method comes from.

    #### Example

    ```python
    import zoo

    entry = zoo.find("glow.digits")
    entry.event_shape, entry.kind.units  # (8, 8, 1), "bits_per_dim"
    ```
    """

    name: str
    builder: Callable[..., tfd.Distribution]
    arguments: Mapping
    kind: Kind
    recipe: Recipe
    summary: str
    paper: str

    @property
    def event_shape(self) -> tuple[int, ...]:
        """`(H, W, C)` of images, `(2,)` of points, `(k, F)` of sets of nodes, `(D,)` of rows."""
        return self.kind.get_event_shape(self.arguments)

    @property
    def num_levels(self) -> int | None:
        """Number of values of a pixel; `None` if the events are no integers."""
        return self.arguments.get("num_levels")

    @property
    def context_size(self) -> int | None:
        """Length of the context that it is conditional on; `None` if it is not."""
        given = len(columns.as_list(self.arguments.get("condition_columns") or 0))
        return given or self.arguments.get("context_size")

    @property
    def units(self) -> str:
        """Units of its score, as `tfflows.FlowModel` names them."""
        return self.kind.units

    def build(self, seed: int = 0, **overrides: Any) -> tfd.Distribution:
        """Returns a new distribution with random weights, as it is trained."""
        unknown = set(overrides) - set(self.arguments)
        if unknown:
            raise ValueError(
                f"`overrides` of {self.name!r} must be among {sorted(self.arguments)}. "
                f"Received: {sorted(unknown)}."
            )
        hints = _hints(self.builder)
        for key, value in {**overrides, "seed": seed}.items():
            if key != "image_shape" and not _fits(value, hints.get(key)):
                kinds = " or ".join(_KINDS[part] for part in _parts(hints[key]))
                raise ValueError(f"`{key}` must be {kinds}. Received: {key}={value!r}.")
            # Counts and sizes, of which a negative one would be taken for none.
            if key != "image_shape" and _least(value) < 0 <= _least(self.arguments.get(key)):
                raise ValueError(f"`{key}` must not be negative. Received: {key}={value!r}.")
        return self.builder(seed=seed, **{**self.arguments, **overrides})


# What the arguments of builders may be, by their annotations. Others are for the builders to check.
_KINDS = {
    bool: "True or False",
    int: "an integer",
    float: "a number",
    str: "a text",
    type(None): "None",
    Sequence[int]: "a list of integers",
    Sequence[float]: "a list of numbers",
}


def _hints(builder):
    """Returns the annotations of a builder, none if they can't be read."""
    try:
        return typing.get_type_hints(builder)
    except (NameError, TypeError):  # Of somebody else.
        return {}


def _parts(hint):
    """Returns what a union is of, or the one annotation."""
    is_union = typing.get_origin(hint) in (types.UnionType, typing.Union)
    return typing.get_args(hint) if is_union else (hint,)


def _fits(value, hint):
    """Returns whether a value is what an annotation says, if that is of `_KINDS`."""
    if hint is float:
        return isinstance(value, numbers.Real) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if hint in (Sequence[int], Sequence[float]):
        (of,) = typing.get_args(hint)
        return isinstance(value, (list, tuple)) and all(_fits(entry, of) for entry in value)
    if hint in _KINDS:
        return isinstance(value, hint)
    parts = _parts(hint)
    return len(parts) == 1 or any(_fits(value, part) for part in parts)


def _least(value):
    """Returns the least of an integer or of several, 0 of what is neither."""
    values = value if isinstance(value, (list, tuple)) else [value]
    return min((v for v in values if type(v) is int), default=0)


_MODELS: dict[str, Model] = {}


def register(
    name: str,
    builder: Callable[..., tfd.Distribution],
    *,
    kind: Kind,
    recipe: Recipe,
    summary: str,
    paper: str,
    **arguments: Any,
) -> None:
    """Lets a name stand for what a builder makes of arguments.

    Args:
      name: `architecture.dataset_variant`.
      builder: a function of keyword arguments, of types that JSON knows, one of them `seed`, to
        the distribution that is trained: a `Dequantized` one for images.
      kind: what the events are: `zoo.IMAGES`, whose builder has arguments `image_shape` and
        `num_levels`; `zoo.POINTS`, of `event_shape`, `(2,)` if there is no such argument;
        `zoo.SETS`, of `num_nodes` and `num_features`; or `zoo.TABLES`, of `columns`, see
        `zoo.columns`.
      recipe: how it is trained.
      summary: one line for people.
      paper: where the method comes from.
      **arguments: arguments of the builder; the others have its defaults.

    Raises:
      ValueError: if the name is taken, or `kind` is none of these.
    """
    if name in _MODELS:
        raise ValueError(f"A model named {name!r} is registered already.")
    if kind not in KINDS:
        raise ValueError(
            "`kind` must be one of zoo.IMAGES, zoo.POINTS, zoo.SETS and zoo.TABLES. "
            f"Received: kind={kind!r}."
        )
    defaults = {
        key: parameter.default
        for key, parameter in inspect.signature(builder).parameters.items()
        if parameter.default is not parameter.empty and key != "seed"
    }
    _MODELS[name] = Model(name, builder, defaults | arguments, kind, recipe, summary, paper)


def find(name: str) -> Model:
    """Returns the entry of a name.

    Raises:
      ValueError: if there is none; names the nearest ones.
    """
    if name not in _MODELS:
        near = difflib.get_close_matches(name, _MODELS, n=3, cutoff=0.4) or sorted(_MODELS)
        raise ValueError(
            f"There is no model of this name; the nearest are {', '.join(near)} "
            f"(`zoo.list_models()` lists all). Received: name={name!r}."
        )
    return _MODELS[name]


def names() -> list[str]:
    """Returns the names of all entries, sorted."""
    return sorted(_MODELS)
