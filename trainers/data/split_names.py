"""What the names of folders and of arrays say about splits: train, validation, test."""

import functools
import re
from collections.abc import Sequence

NAMES = ("train", "validation", "test")
_WORDS = {
    "train": "train",
    "training": "train",
    "trn": "train",
    "validation": "validation",
    "validate": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "tst": "test",
    # Splits, but which?
    "trainval": "",
    "eval": "",
    "evaluation": "",
    "holdout": "",
    "heldout": "",
}
# These change nothing beside the words above: train_images, x_test, ValSet.
_PLAIN = "x|data|dataset|set|split|sample|samples|image|images|img|imgs|picture|pictures|photos"
_GLUED = re.compile(f"(?:{_PLAIN})?({'|'.join(_WORDS)})(?:{_PLAIN})?")
Path = tuple[str, ...]


def divide(paths: Sequence[Path], root: str, remedy: str) -> list[str | None]:
    """Finds the split of each path, or asks: what is for tests must never be trained on.

    The first name of a path that is that of a split, such as `val` or `Test_images`, decides.
    Names that only have the word in them, such as `train_HR`, do so if there are no others and all
    paths have one. Without any such name all is `train`.

    Args:
        paths: names from the outermost on, of a folder or an array; no two alike.
        root: where they are, for the error.
        remedy: what to do, for the error.

    Returns:
        The split of each path, one of `NAMES`; or `None` for one that is in none, beside `train`
        and others.

    Raises:
        ValueError: if it is not clear what is for training.
    """
    told = _told_all(paths)
    strictly = any(_told(path, strictly=True) for path in paths)
    if not any(told):
        return ["train"] * len(paths)
    splits = [t[1] if t else None for t in told]
    doubt = _overlap(paths, told) or _two_levels(paths, told) or _rest(paths, splits, strictly)
    if doubt:
        raise ValueError(f"`{root}` must say what to train on: {doubt}. {remedy}.")
    return [split or None for split in splits]


def without(paths: Sequence[Path]) -> list[Path]:
    """Returns paths, as `divide` takes them, without the names that tell their splits."""
    told = _told_all(paths)
    return [
        path[: found[0]] + path[found[0] + 1 :] if found and found[1] else path
        for path, found in zip(paths, told, strict=True)
    ]


def tell(paths: Sequence[Path]) -> bool:
    """Returns whether any name in the paths tells of a split."""
    return any(of(name) is not None for path in paths for name in path)


def _told_all(paths: Sequence[Path]) -> list[tuple[int, str] | None]:
    """What the names in paths tell: those that say nothing else, or if there are none, others."""
    told = [_told(path, strictly=True) for path in paths]
    return told if any(told) else [_told(path, strictly=False) for path in paths]


def _told(path: Path, strictly: bool) -> tuple[int, str] | None:
    """The place of the name that tells the split of a path, and the split; "" if unclear."""
    told = [(i, of(name, strictly)) for i, name in enumerate(path)]
    told = [(i, split) for i, split in told if split is not None]
    return next((t for t in told if t[1]), told[0] if told else None)


@functools.lru_cache(10_000)
def of(name: str, strictly: bool = False) -> str | None:
    """Returns the split that a name tells of; "" if that is unclear, `None` if it tells of none.

    Args:
        name: of a folder, a file without its suffix, or an array.
        strictly: whether it must say nothing else, as `train_HR` does.
    """
    words = re.findall(r"[^\W\d_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name))
    words = [word.lower() for word in words]
    words = [match[1] if (match := _GLUED.fullmatch(word)) else word for word in words]
    splits = {_WORDS[word] for word in words if word in _WORDS}
    others = any(word not in _WORDS and not re.fullmatch(_PLAIN, word) for word in words)
    if not splits or (strictly and others):
        return None
    return splits.pop() if len(splits) == 1 else ""


def _overlap(paths, told) -> str | None:
    """Says which paths are in two splits, or which two names are the same split."""
    names = {}
    for path, found in zip(paths, told, strict=True):
        if found is None or not found[1]:
            continue
        place, split = found
        # A class may be named train, but what is for training can't hold tests.
        deeper = {of(name, strictly=True) for name in path[place + 1 :]}
        if deeper - {None, "train", split}:
            return f"`{_text(path)}` is in two splits"
        name = _text(path[: place + 1])
        other = names.setdefault((path[:place], split), name)
        if other != name:
            return f"`{other}` and `{name}` may both be for `{split}`"
    return None


def _two_levels(paths, told) -> str | None:
    levels = {t[0]: _text(p[: t[0] + 1]) for p, t in zip(paths, told, strict=True) if t and t[1]}
    if len(levels) > 1:
        return "{} and {} are splits at two levels".format(*(f"`{n}`" for n in levels.values()))
    return None


def _rest(paths, splits, strictly) -> str | None:
    """Says what is in no split, unless it is clear what is for training."""
    found = set(filter(None, splits))
    rest = [_text(path) for path, split in zip(paths, splits, strict=True) if not split]
    if not rest or (strictly and "train" in found and len(found) > 1):
        return None
    named = next((_text(p) for p, split in zip(paths, splits, strict=True) if split), None)
    if named is None:
        return f"`{rest[0]}` may be for training or for tests"
    return f"`{named}` is a split, and `{rest[0]}` beside it is in none"


def _text(path: Path) -> str:
    return "/".join(path) or "."
