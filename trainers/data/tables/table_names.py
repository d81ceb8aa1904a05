"""The name of a table, which alone says what the data are: a path, and options as in an address.

rows.csv?columns=age,income&condition=sex&split_column=part
"""

import dataclasses
import re
import urllib.parse
from typing import Any

from trainers.data.tables import column_lists

_OPTIONS = ("columns", "condition", "split_column", "split", "seed")
_QUERY = re.compile(rf"\?(?=(?:{'|'.join(_OPTIONS)})=)")


@dataclasses.dataclass(frozen=True)
class Spec:
    """What a name says.

    Attributes:
      path: path, pattern, or name of a bundled table.
      columns: names or numbers of the columns, patterns of names such as `*_share`, or `-name` for
        all but some; `None` for all.
      condition: columns that the others are conditioned by.
      split_column: a column that says of which split a row is, or `None`.
      split: fractions of rows for train, validation and test, or `None` for the usual ones.
      seed: of the order from which these are taken.
    """

    path: str
    columns: tuple[str, ...] | None = None
    condition: tuple[str, ...] = ()
    split_column: str | None = None
    split: tuple[float, ...] | None = None
    seed: int = 0


def parse(name: str) -> Spec:
    """Returns what a name says.

    Raises:
      ValueError: if an option is unknown or has no such value.
    """
    path, rest = path_of(name), _QUERY.split(name, maxsplit=1)[1:]
    if not rest:
        return Spec(path)
    pairs = urllib.parse.parse_qsl(rest[0], keep_blank_values=True, strict_parsing=True)
    found: dict[str, Any] = dict(pairs)
    if set(found) - set(_OPTIONS) or len(found) < len(pairs):
        raise ValueError(
            f"The options of a table must be among {', '.join(_OPTIONS)}, each once. "
            f"Received: {name!r}."
        )
    for key in ("columns", "condition"):
        if key in found:
            found[key] = tuple(column_lists.split(found[key]))
    if "split" in found:
        found["split"] = _fractions(found["split"])
    if "seed" in found:
        if not re.fullmatch(r"\d+", found["seed"]):
            raise ValueError(f"The seed of a split must be 0 or more. Received: {name!r}.")
        found["seed"] = int(found["seed"])
    return Spec(path, **found)


def _fractions(text):
    try:
        values = tuple(map(float, text.split(",")))
    except ValueError:
        values = ()
    if len(values) != 3 or min(values) < 0 or not values[0] > 0 or abs(sum(values) - 1) > 1e-6:
        raise ValueError(
            "The split of a table must be three fractions for train, validation and test whose "
            f"sum is 1, such as 0.8,0.1,0.1. Received: {text!r}."
        )
    return values


def name_with(name: str, **options: Any) -> str:
    """Returns a name with options in the place of those that it has; `None` takes one away.

    Args:
      name: the name of a table.
      **options: attributes of `Spec`, lists as lists.
    """
    spec = dataclasses.asdict(parse(name))
    path = spec.pop("path")
    given = {key: value for key, value in {**spec, **options}.items() if value not in (None, ())}
    if not given.get("seed"):
        given.pop("seed", None)
    texts = {}
    for key in _OPTIONS:
        if key in given:
            value = given[key]
            is_list = isinstance(value, (list, tuple))
            texts[key] = column_lists.join(value) if is_list else str(value)
    query = urllib.parse.urlencode(texts, quote_via=urllib.parse.quote, safe=",")
    return f"{path}?{query}" if texts else path


def path_of(name: str) -> str:
    """Returns a name without its options."""
    return _QUERY.split(name, maxsplit=1)[0].removeprefix("folder:")


def shown(name: str) -> str:
    """Returns a name for messages: of a table, without the list of its columns, which is long."""
    return name_with(name, columns=None, condition=None) if _QUERY.search(name) else name
