"""The programs of trainers/ and their flags, read from the source without importing it."""

import ast
import dataclasses
import html
import types

PROGRAMS = ("train", "evaluate", "sample", "score", "export", "deform", "benchmark", "reproduce")
HEADER = ("| flag | | default |", "| --- | --- | --- |")


@dataclasses.dataclass(frozen=True)
class Flag:
    name: str
    default: str
    help: str


def describe(folder):
    """The page of the programs, as Markdown."""
    trees = {path.stem: ast.parse(path.read_text()) for path in folder.glob("*.py")}
    known = {flag.name: flag for tree in trees.values() for flag in flags_of(tree)}
    parts = []
    for program in PROGRAMS:
        tree = trees[program]
        own = [flag.name for flag in flags_of(tree)]
        names = sorted([*own, *shared(program, trees)])
        rows = [row(known[name]) for name in names]
        parts += [f"## trainers.{program}", "", ast.get_docstring(tree), "", *HEADER, *rows, ""]
    return "\n".join(parts)


def flags_of(tree):
    """What `flags.DEFINE_...` defines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            kind = node.func.attr.removeprefix("DEFINE_")
            if kind != node.func.attr:
                name, default, *_, text = node.args
                yield Flag(name.value, as_text(default), text.value)


def as_text(default):
    if not isinstance(default, ast.Constant):
        return ast.unparse(default).replace("[]", "")
    if isinstance(default.value, bool):
        return str(default.value).lower()
    return "" if default.value is None else str(default.value)


def shared(program, trees):
    """The names in `SHARED_FLAGS` of a program, which may be made of those of other modules."""
    return constants(trees[program], trees)["SHARED_FLAGS"]


def constants(tree, trees):
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).endswith("_FLAGS"):
            others = {
                name.value.id: types.SimpleNamespace(**constants(trees[name.value.id], trees))
                for name in ast.walk(node.value)
                if isinstance(name, ast.Attribute)
            }
            code = compile(ast.Expression(node.value), "flags", "eval")
            found[node.targets[0].id] = eval(code, others | found)
    return found


def row(flag):
    text = html.escape(flag.help, quote=False).replace("|", "\\|").replace("*", "\\*")
    default = f"`{flag.default}`" if flag.default else ""
    return f"| `--{flag.name}` | {text} | {default} |"
