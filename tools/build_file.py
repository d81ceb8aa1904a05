"""Writes BUILD from the Python files in the tree and what they import.

    python3 tools/build_file.py            writes BUILD
    python3 tools/build_file.py --check    fails, with a diff, if BUILD is not what it would write

One target a file, named as the file without `.py`; a package's `__init__.py` has the package's
name. A target's deps are:
- the files it imports, and the `__init__.py` of their packages, since Python runs those too. Left
  out are the packages the file is in itself: they import it, and Bazel allows no cycles;
- `@pypi//...` for other packages, each of which a requirements file has to name;
- for tests, pytest, which runs them, and the conftest.py files that it finds by itself.

Needs nothing but the standard library.
"""

import argparse
import ast
import difflib
import graphlib
import pathlib
import re
import sys
import tomllib
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).resolve().parents[1]
FOLDERS = ("benchmarks", "docs", "tests", "tfflows", "tools", "trainers", "zoo")
# Distributions with another name than the module that they install.
DISTRIBUTIONS = {"PIL": "pillow", "absl": "absl_py", "sklearn": "scikit_learn"}
# Files that tests read, beside the package data that comes with the packages they import.
TEST_DATA = {
    "tests/test_build.py": (
        ["BUILD", "MODULE.bazel", "pyproject.toml", "requirements*.txt"]
        + [f"{folder}/**/*.py" for folder in FOLDERS]
    ),
    "tests/test_docs.py": (
        ["README.md", "docs/**/*.md"]
        + [f"{folder}/**/*.py" for folder in ("tfflows", "trainers", "zoo")]
    ),
    "tests/tfflows/test_compat.py": ["requirements.txt"],
}
HEADER = '''\
"""Targets for every Python file, written by tools/build_file.py: do not edit, run it again."""

load("@rules_python//python:defs.bzl", "py_binary", "py_library", "py_test")

package(default_visibility = ["//visibility:public"])
'''


def main() -> int:
    """Writes or checks BUILD; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with BUILD and write nothing")
    parser.add_argument("--root", type=pathlib.Path, default=ROOT, help="the repository")
    args = parser.parse_args()
    build = args.root / "BUILD"
    try:
        text = build_text(args.root)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    if not args.check:
        build.write_text(text)
        return 0
    current = build.read_text() if build.exists() else ""
    lines = (current.splitlines(), text.splitlines(), "BUILD", "needed", "", "", 1, "")
    print("\n".join(difflib.unified_diff(*lines)))
    if current != text:
        print("BUILD does not fit the tree. Run: python3 tools/build_file.py", file=sys.stderr)
    return int(current != text)


def build_text(root: pathlib.Path) -> str:
    """The whole BUILD file."""
    tree = Tree(root)
    deps = {file: tree.deps(file) for file in tree.files}
    first_party = {label(file): [d[1:] for d in deps[file] if d[0] == ":"] for file in tree.files}
    try:
        graphlib.TopologicalSorter(first_party).prepare()
    except graphlib.CycleError as error:
        cycle = " <- ".join(error.args[1])
        raise ValueError(f"Import cycle, which Bazel refuses: {cycle}") from None
    return "\n".join([HEADER, *(tree.target(file, deps[file]) for file in tree.files)])


def label(file: str) -> str:
    """The name of a file's target: "zoo/load.py" -> "zoo/load", "zoo/__init__.py" -> "zoo"."""
    return file.removesuffix(".py").removesuffix("/__init__")


class Tree:
    """The Python files under a root and what each of them needs."""

    def __init__(self, root: pathlib.Path):
        self.root = root
        paths = (path for folder in FOLDERS for path in (root / folder).rglob("*.py"))
        self.files = sorted((path.relative_to(root).as_posix() for path in paths), key=label)
        pyproject = tomllib.loads((root / "pyproject.toml").read_text())
        self.package_data = pyproject["tool"]["setuptools"]["package-data"]
        self.declared = {
            re.match(r"[\w.-]+", line)[0].lower().replace("-", "_")
            for requirements in root.glob("requirements*.txt")
            if requirements.name != "requirements_lock.txt"
            for line in requirements.read_text().splitlines()
            if line and line[0] != "#"
        }

    def deps(self, file: str) -> list[str]:
        """The labels that a file depends on, first party first."""
        own = {label(file), *packages_around(file)}
        labels = set()
        for module in imported_modules(self.root, file):
            top = module.split(".")[0]
            if top in FOLDERS:
                labels |= {":" + name for name in self.first_party(file, module) if name not in own}
            elif top not in sys.stdlib_module_names:
                labels.add("@pypi//" + self.distribution(file, top))
        if is_test(file):
            folders = pathlib.PurePosixPath(file).parents
            conftests = {f"{folder}/conftest.py" for folder in folders} & set(self.files)
            labels |= {":" + label(conftest) for conftest in conftests} | {"@pypi//pytest"}
        return sorted(labels)

    def first_party(self, file: str, module: str) -> Iterator[str]:
        """The targets that importing a module runs: its file and its packages."""
        parts = module.split(".")
        # `from a.b import c` may import the module a.b.c or something inside a.b.
        for end in (len(parts), len(parts) - 1):
            path = "/".join(parts[:end])
            for found in (f"{path}.py", f"{path}/__init__.py"):
                if found in self.files:
                    yield from {label(found), *packages_around(found)} & set(map(label, self.files))
                    return
        raise ValueError(f"{file} imports {module}, for which there is no file.")

    def distribution(self, file: str, top: str) -> str:
        name = DISTRIBUTIONS.get(top, top)
        if name not in self.declared:
            raise ValueError(f"{file} imports {top}, but no requirements*.txt names {name}.")
        return name

    def target(self, file: str, deps: list[str]) -> str:
        """The text of a file's target."""
        attributes = {"name": label(file), "srcs": [file]}
        data = TEST_DATA.get(file, [])
        if is_test(file):
            rule = "py_test"
            attributes["args"] = [file]
            attributes["main_module"] = "pytest"
            data = sorted({*data, "pyproject.toml"})
        elif is_main(self.root / file):
            rule = "py_binary"
            attributes["main_module"] = label(file).replace("/", ".")
        else:
            rule = "py_library"
            attributes["testonly"] = file.startswith("tests/") or None
            if file == f"{label(file)}/__init__.py":
                data = [f"{label(file)}/{p}" for p in self.package_data.get(label(file), [])]
        attributes["data"] = Files(data)
        if rule != "py_library":
            # Else Bazel adds an empty __init__.py to every folder, also to those that have none.
            attributes["legacy_create_init"] = 0
        attributes["deps"] = deps
        given = [key for key in ORDER if attributes.get(key) not in (None, [])]
        lines = [f"    {key} = {starlark(attributes[key])}," for key in given]
        return "\n".join([f"{rule}(", *lines, ")", ""])


# As buildifier sorts them.
ORDER = ("name", "testonly", "srcs", "args", "data", "legacy_create_init", "main_module", "deps")


class Files(list):
    """Files and patterns of files."""


def starlark(value) -> str:
    """A value as buildifier formats it in a rule's arguments."""
    if isinstance(value, Files):
        names = [item for item in value if "*" not in item]
        patterns = starlark([item for item in value if "*" in item]).replace("\n", "\n    ")
        glob = f"glob(\n        {patterns},\n        allow_empty = True,\n    )"
        return " + ".join([starlark(names)] * bool(names) + [glob] * (patterns != "[]"))
    if isinstance(value, list) and len(value) > 1:
        return "[\n" + "".join(f'        "{item}",\n' for item in value) + "    ]"
    return repr(value).replace("'", '"')


def is_test(file: str) -> bool:
    return file.startswith("tests/") and pathlib.PurePosixPath(file).name.startswith("test_")


def is_main(path: pathlib.Path) -> bool:
    """Whether a file has `if __name__ == "__main__":`."""
    tests = (node.test for node in ast.parse(path.read_bytes()).body if isinstance(node, ast.If))
    return any(ast.unparse(test) == "__name__ == '__main__'" for test in tests)


def packages_around(file: str) -> list[str]:
    """The packages a file is in: "a/b/c.py" -> ["a/b", "a"]."""
    return [folder.as_posix() for folder in pathlib.PurePosixPath(file).parents][:-1]


def imported_modules(root: pathlib.Path, file: str) -> Iterator[str]:
    """The dotted names that a file imports anywhere, with `from a import b` as a.b."""
    package = packages_around(file)
    for node in runtime_nodes(ast.parse((root / file).read_bytes(), file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[node.level - 1].split("/") if node.level else []
            base += [node.module] if node.module else []
            yield from (".".join([*base, alias.name]) for alias in node.names)


def runtime_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under `if TYPE_CHECKING:`."""
    yield tree
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            continue
        yield from runtime_nodes(child)


if __name__ == "__main__":
    sys.exit(main())
