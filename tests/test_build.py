"""The BUILD files and MODULE.bazel against the tree.

BUILD files are Python enough to be executed with functions that record the targets. `problems` says
what is wrong with a tree; the tests also damage a small tree in the ways that it or its BUILD files
can rot, to see that it notices.
"""

import ast
import builtins
import functools
import graphlib
import itertools
import json
import pathlib
import re
import sys
import tomllib
import types

import pytest
from packaging.requirements import Requirement

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = ("tfflows", "zoo", "trainers")
PYPI_NAMES = {"PIL": "pillow", "absl": "absl_py", "sklearn": "scikit_learn"}
# What TensorFlow Probability and TensorFlow Datasets import without requiring it.
UNDECLARED = {
    "//tfflows:tfflows": "@pypi//tf_keras",
    "//trainers:trainers": "@pypi//importlib_resources",
}
OUTPUTS = ("build", "dist", "runs", "site")
# Where Bazel runs a test there is only what BUILD files name: this one has nothing to do there.
NOT_BAZELS = "tests/test_build.py"
# Programs that Bazel does not know: mkdocs runs them.
SITE = "tools/site/"

RULES = {"@rules_python//python:defs.bzl": ("py_library", "py_binary", "py_test")}
NATIVE_RULES = ("alias", "filegroup", "test_suite")
LABELS = ("srcs", "data", "deps", "actual", "tests")
# Statements and expressions that Starlark lacks, and those that BUILD files lack beside.
NOT_STARLARK = {"Assert", "ClassDef", "GeneratorExp", "Import", "ImportFrom", "Is", "IsNot"}
NOT_STARLARK |= {"JoinedStr", "NamedExpr", "Pow", "Raise", "Set", "SetComp", "Try", "While", "With"}
NOT_BUILD = NOT_STARLARK | {"For", "FunctionDef", "If", "Starred"}
BUILTINS = ("dict", "enumerate", "len", "list", "range", "sorted", "str", "tuple", "zip")


class Builds:
    """What the BUILD files of a tree define: targets by label, and what is wrong with the files."""

    def __init__(self, root):
        self.root = root
        self.targets = {}
        self.exported = set()
        self.problems = []
        for build in find_files(root, "BUILD"):
            package = build.removesuffix("BUILD").removesuffix("/")
            try:
                self.execute(root / build, package, NOT_BUILD, self.natives(package))
            except Exception as error:
                self.problems.append(f"{build}: {type(error).__name__}: {error}")

    def execute(self, path, package, forbidden, scope):
        """Runs a BUILD or .bzl file and returns the names that it defines."""
        tree = ast.parse(path.read_text(), str(path))
        for node in ast.walk(tree):
            if type(node).__name__ in forbidden:
                raise SyntaxError(f"{type(node).__name__} in {path.name}")
        available = {name: getattr(builtins, name) for name in BUILTINS}
        scope |= {"__builtins__": available, "load": functools.partial(self.load, scope, package)}
        exec(compile(tree, str(path), "exec"), scope)
        return scope

    def load(self, scope, package, source, *names):
        if source in RULES:
            known = {kind: self.rule(package, kind) for kind in RULES[source]}
        else:
            folder, name = absolute(source, package)[2:].split(":")
            native = types.SimpleNamespace(**self.natives(package))
            path = self.root / folder / name
            if not (path.parent / "BUILD").exists():
                raise ValueError(f"{source} is in no package")
            known = self.execute(path, package, NOT_STARLARK, {"native": native})
        scope |= {name: known[name] for name in names}

    def natives(self, package):
        return {
            "package": lambda default_visibility: None,
            "package_name": lambda: package,
            "exports_files": lambda names: self.exported.update(f"//{package}:{n}" for n in names),
            "glob": functools.partial(self.glob, package),
            **{kind: self.rule(package, kind) for kind in NATIVE_RULES},
        }

    def rule(self, package, kind):
        def record(name, **attributes):
            label = f"//{package}:{name}"
            for attribute in attributes.keys() & LABELS:
                value = attributes[attribute]
                values = [value] if isinstance(value, str) else value
                labels = [absolute(v, package) for v in values]
                attributes[attribute] = labels
                if len(set(labels)) != len(labels):
                    self.problems.append(f"{label}: the same label twice in {attribute}")
            if label in self.targets or "/" in name:
                self.problems.append(f"{label}: the name is taken, or has a slash")
            self.targets[label] = {"kind": kind, "label": label, **attributes}

        return record

    def glob(self, package, include, exclude=()):
        """Files of the package that match, not those of packages below it."""
        folder, found = self.root / package, set()
        for pattern in include:
            hits = self.matches(folder, pattern)
            if not hits:
                raise ValueError(f"{pattern} matches nothing")
            found |= hits
        return sorted(found.difference(*(self.matches(folder, pattern) for pattern in exclude)))

    def matches(self, folder, pattern):
        paths = folder.glob(re.sub(r"\*\*$", "**/*", pattern))
        relative = (path.relative_to(folder) for path in paths if path.is_file())
        return {
            path.as_posix()
            for path in relative
            if not any((folder / parent / "BUILD").exists() for parent in list(path.parents)[:-1])
        }

    def of_kind(self, kind):
        return [target for target in self.targets.values() if target["kind"] == kind]


def absolute(label, package):
    """A label in full: "//package:name", or "@pypi//name" as it is."""
    if label.startswith("@"):
        return label
    if label.startswith("//"):
        package, _, name = label[2:].partition(":")
        return f"//{package}:{name or pathlib.PurePosixPath(package).name}"
    return f"//{package}:{label.removeprefix(':')}"


def file_of(label):
    """The file that a label names if it names one."""
    return label[2:].replace(":", "/").removeprefix("/")


def find_files(root, name):
    """The files of the repository by that name, those in environments and outputs left out."""
    for path in root.iterdir():
        outputs = path.name.startswith((".", "bazel-")) or path.name in OUTPUTS
        if not outputs and not (path / "pyvenv.cfg").exists():
            paths = path.rglob(name) if path.is_dir() else [path] if path.match(name) else []
            yield from (found.relative_to(root).as_posix() for found in paths)


def imports(root, file):
    """(module, name or None) for each import of a file, type-checking ones left out."""
    tree = ast.parse((root / file).read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            parents = list(pathlib.Path(file).parts[: -node.level]) if node.level else []
            module = ".".join(parents + ([node.module] if node.module else []))
            yield from ((module, alias.name) for alias in node.names)


def module_files(root, module):
    """The files that importing a module runs, or None if it is not one of the repository's."""
    path = root / module.replace(".", "/")
    if path.with_suffix(".py").is_file():
        own = path.with_suffix(".py")
    elif (path / "__init__.py").is_file():
        own = path / "__init__.py"
    else:
        return None
    packages = [folder / "__init__.py" for folder in own.parents if folder.is_relative_to(root)]
    return {str(f.relative_to(root)) for f in [own, *packages] if f.is_file()}


def needed_deps(root, file, libraries):
    """The labels that a file imports, given the libraries of all files."""
    deps = set()
    for module, name in imports(root, file):
        top = module.split(".")[0]
        if (root / top).is_dir():
            files = (name and module_files(root, f"{module}.{name}")) or module_files(root, module)
            for found in files or {module}:
                deps |= set(libraries.get(found, [f"a library with {found}"]))
        elif top not in sys.stdlib_module_names:
            deps.add(f"@pypi//{PYPI_NAMES.get(top, top)}")
    return deps


def is_test(file):
    return re.fullmatch(r"tests/(.*/)?test_\w+\.py", file) is not None


def has_main(root, file):
    return re.search(r'^if __name__ == "__main__":', (root / file).read_text(), re.MULTILINE)


def problems(root):
    """What is wrong with a tree's BUILD files, one line each."""
    builds = Builds(root)
    files = {file for file in find_files(root, "*.py") if not file.startswith(SITE)}
    targets = {kind: {} for kind in ("py_library", "py_binary", "py_test")}
    for kind, label in ((k, t["label"]) for k in targets for t in builds.of_kind(k)):
        for source in builds.targets[label]["srcs"]:
            targets[kind].setdefault(file_of(source), []).append(label)
    return sorted(
        itertools.chain(
            builds.problems,
            file_problems(root, files, targets),
            label_problems(builds),
            library_problems(builds, targets["py_library"]),
            program_problems(builds, targets["py_library"]),
            pytest_problems(builds, targets["py_library"]),
            data_problems(builds),
            alias_problems(builds),
        )
    )


def file_problems(root, files, targets):
    for file in files:
        counts = {kind: len(labels.get(file, ())) for kind, labels in targets.items()}
        test = is_test(file) and file != NOT_BAZELS
        program = not is_test(file) and bool(has_main(root, file))
        # A test that others import is in a library, too.
        if counts["py_library"] != 1 and not (is_test(file) and counts["py_library"] == 0):
            yield f"{file}: in {counts['py_library']} py_library"
        for kind, wanted in (("py_test", test), ("py_binary", program)):
            if counts[kind] != wanted:
                yield f"{file}: in {counts[kind]} {kind} where {int(wanted)} is needed"
        package = pathlib.PurePosixPath(file).parent
        if file.split("/")[0] in PACKAGES and not (root / package / "__init__.py").exists():
            yield f"{package}: no __init__.py, without which no wheel has it"


def label_problems(builds):
    """Labels of what is not there, cycles, and tests that code depends on."""
    targets = builds.targets
    kinds = ("py_test", "test_suite")
    of_tests = {t["label"] for t in targets.values() if t.get("testonly") or t["kind"] in kinds}
    for label, target in targets.items():
        labels = {dep for attribute in LABELS for dep in target.get(attribute, ())}
        for dep in labels - targets.keys():
            visible = dep in builds.exported or dep.split(":")[0] == label.split(":")[0]
            if dep[0] != "@" and not (visible and (builds.root / file_of(dep)).is_file()):
                yield f"{label}: no {dep}"
        if label not in of_tests and (label.startswith("//tests:") or labels & of_tests):
            yield f"{label}: not testonly"
    for dep in builds.exported:
        if not (builds.root / file_of(dep)).is_file():
            yield f"{dep}: exported, but not there"
    try:
        graphlib.TopologicalSorter(
            {t["label"]: t.get("deps", ()) for t in targets.values()}
        ).prepare()
    except graphlib.CycleError as error:
        yield "a cycle: " + " <- ".join(error.args[1])


def library_problems(builds, libraries):
    for target in builds.of_kind("py_library"):
        label = target["label"]
        sources = [file_of(s) for s in target["srcs"] if (builds.root / file_of(s)).is_file()]
        needed = set().union(*(needed_deps(builds.root, file, libraries) for file in sources))
        needed |= {UNDECLARED[label]} if label in UNDECLARED else set()
        yield from differences(label, needed - {label}, set(target.get("deps", ())))


def differences(label, needed, deps):
    yield from (f"{label}: dep {dep} is missing" for dep in needed - deps)
    yield from (f"{label}: dep {dep} is not imported" for dep in deps - needed)


def program_problems(builds, libraries):
    for target in builds.of_kind("py_binary"):
        (file,) = map(file_of, target["srcs"])
        module = file.removesuffix(".py").replace("/", ".")
        if (target.get("main_module"), target.get("legacy_create_init")) != (module, 0):
            yield f"{target['label']}: does not run as {module}"
        yield from differences(target["label"], set(libraries.get(file, ())), set(target["deps"]))


def pytest_problems(builds, libraries):
    """Tests that a macro makes share deps: each of these has to be imported by one of them."""
    imported = {}
    for target in builds.of_kind("py_test"):
        (file,) = map(file_of, target["srcs"])
        how = [target.get(key) for key in ("main_module", "args", "legacy_create_init")]
        if how != ["pytest", [file], 0] or "//:pyproject.toml" not in target.get("data", ()):
            yield f"{target['label']}: does not run under pytest"
        deps = frozenset(target["deps"])
        needed = {"//tests:tests", "@pypi//pytest"}
        if (builds.root / file).is_file():
            needed |= needed_deps(builds.root, file, libraries)
        yield from (f"{target['label']}: dep {dep} is missing" for dep in needed - deps)
        imported.setdefault(deps, set()).update(needed)
    for deps, needed in imported.items():
        yield from (f"dep {dep} of tests is not imported" for dep in deps - needed)


def data_problems(builds):
    """Files of the packages beside Python files must be in the data of the package's target."""
    for package in PACKAGES:
        data = set(map(file_of, builds.targets.get(f"//{package}:{package}", {}).get("data", ())))
        for path in (builds.root / package).rglob("*"):
            file = path.relative_to(builds.root).as_posix()
            code = path.suffix in (".py", ".pyc") or path.name == "BUILD"
            if path.is_file() and not code and file not in data:
                yield f"{file}: in no data of //{package}"


def alias_problems(builds):
    """The BUILD at the root has short names for the packages and for the programs of trainers."""
    programs = [
        t["label"] for t in builds.of_kind("py_binary") if t["label"].startswith("//trainers:")
    ]
    for actual in [*(f"//{package}:{package}" for package in PACKAGES), *programs]:
        alias = builds.targets.get("//:" + actual.split(":")[1], {})
        if alias.get("actual") != [actual]:
            yield f"{actual}: no alias at the root"


def test_build_files_fit_the_tree():
    assert {f"{package}/__init__.py" for package in PACKAGES} <= set(find_files(ROOT, "*.py"))
    assert problems(ROOT) == []


def test_labels_of_pypi_are_locked_and_required():
    core = set(map(name_in_labels, requirements("core")))
    runtime = core | set(map(name_in_labels, requirements("train")))
    known = {"tfflows": core, "zoo": core, "trainers": runtime}
    anything = runtime | set(map(name_in_labels, dev_requirements()))
    for label, target in Builds(ROOT).targets.items():
        names = {d.removeprefix("@pypi//") for d in target.get("deps", ()) if d[0] == "@"}
        package = label.removeprefix("//").partition(":")[0]
        assert names <= lock().keys() & known.get(package, anything), label


def test_requirements_of_the_programs_are_those_of_the_set_up():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    included = [line.split()[1] for line in lines if not line.startswith("#")]
    assert included == ["requirements/core.txt", "requirements/train.txt"]


def test_messages_and_pages_name_the_required_jax():
    (required,) = (ROOT / "requirements/jax.txt").read_text().splitlines()[1:]
    for file in ("tfflows/_jax.py", "docs/jax.md"):
        assert f"`python -m pip install '{required}'`" in (ROOT / file).read_text()


def test_lock_is_within_the_requirements():
    locked = lock()
    for requirement in requirements("core") + requirements("train") + dev_requirements():
        version = locked[name_in_labels(requirement)]
        assert requirement.specifier.contains(version), requirement


def requirements(name):
    lines = (ROOT / f"requirements/{name}.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if line and line[0] not in "# "]


def dev_requirements():
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    return list(map(Requirement, groups["dev"]))


def name_in_labels(requirement):
    return requirement.name.lower().replace("-", "_")


def lock():
    """Name (as in labels) -> version in the lock that MODULE.bazel names."""
    module = (ROOT / "MODULE.bazel").read_text()
    name = re.search(r'requirements_lock = "//:([\w.-]+)"', module)[1]
    pins = re.findall(r"^([\w.-]+)==(\S+)", (ROOT / name).read_text(), re.MULTILINE)
    return {name.lower().replace("-", "_"): version for name, version in pins}


def test_the_version_is_that_of_the_package():
    version = re.search(r'"(.+)"', (ROOT / "tfflows/_version.py").read_text().split("=")[1])[1]
    assert f'version = "{version}",' in (ROOT / "MODULE.bazel").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" in project["project"]["dynamic"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {
        "attr": "tfflows._version.__version__"
    }
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()


def test_citation_is_of_the_project():
    """The keys that its format requires, and what pyproject.toml says, too."""
    lines = (ROOT / "CITATION.cff").read_text().splitlines()
    entries = dict(line.split(": ", 1) for line in lines if re.match(r"[a-z-]+: ", line))
    assert {"cff-version", "message", "title", "version"} <= entries.keys()
    assert "authors:" in lines
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert entries["title"] == project["name"]
    assert entries["license"] == project["license"]
    assert entries["abstract"] == project["description"]
    start = lines.index("authors:") + 1
    assert lines[start] == f"  - name: {project['authors'][0]['name']}"


def test_workflows_run_on_the_pythons_of_the_classifiers():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    versions = re.findall(r"Python :: (3\.\d+)", " ".join(project["classifiers"]))
    ci = (ROOT / ".github/workflows/ci.yml").read_text()
    assert json.loads(re.search(r"python: (\[.*\])", ci)[1]) == versions
    assert "- run: .ci/run\n" in ci
    release = (ROOT / ".github/workflows/release.yml").read_text()
    named = re.search(r"python-version: \|\n((?: +3\.\d+\n)+)", release)[1].split()
    assert sorted(named) == versions
    assert "- run: tools/test_wheel\n" in release


# A small tree with every kind of file, to damage.


LOADS = """\
load("@rules_python//python:defs.bzl", "py_library")
load("//tools:python.bzl", "py_program", "py_tests")
"""
FILES = {
    "BUILD": """\
exports_files(["pyproject.toml"])
alias(name = "tfflows", actual = "//tfflows")
alias(name = "zoo", actual = "//zoo")
[alias(name = name, actual = "//trainers:" + name) for name in ["trainers", "train"]]
""",
    "pyproject.toml": "",
    "tools/BUILD": "",
    "tools/python.bzl": (ROOT / "tools/python.bzl").read_text(),
    "tfflows/BUILD": LOADS
    + """\
py_library(
    name = "tfflows",
    srcs = glob(["**/*.py"]),
    deps = ["@pypi//numpy", "@pypi//tf_keras"],
)
""",
    "tfflows/__init__.py": "from tfflows import one\n",
    "tfflows/one.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import zoo\n",
    "tfflows/sub/__init__.py": "from . import two\n",
    "tfflows/sub/two.py": "import numpy as np\nfrom tfflows.one import x\nfrom ..one import y\n",
    "zoo/BUILD": LOADS
    + """\
py_library(
    name = "zoo",
    srcs = glob(["**/*.py"]),
    data = ["py.typed"] + glob(["weights/**"]),
    deps = ["//tfflows"],
)
""",
    "zoo/__init__.py": "import tfflows.sub.two\n",
    "zoo/py.typed": "",
    "zoo/weights/a/b.h5": "",
    "trainers/BUILD": LOADS
    + """\
py_library(
    name = "trainers",
    srcs = glob(["**/*.py"]),
    deps = ["//zoo", "@pypi//absl_py", "@pypi//importlib_resources"],
)
py_program(name = "train", deps = [":trainers"])
""",
    "trainers/__init__.py": "",
    "trainers/train.py": 'from absl import app\nimport zoo\nif __name__ == "__main__":\n    pass\n',
    "tests/BUILD": LOADS
    + """\
py_library(
    name = "tests",
    testonly = True,
    srcs = glob(["**/*.py"], exclude = ["**/test_*.py"]),
)
py_tests(name = "sub", deps = ["//tfflows", "//zoo"])
""",
    "tests/conftest.py": "",
    "tests/helper.py": "",
    "tests/sub/test_it.py": "from tests import helper\nfrom tfflows import sub\n",
    "tests/sub/test_zoo.py": "import tfflows\nimport zoo\n",
}


@pytest.fixture
def tree(tmp_path):
    for file, text in FILES.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text)
    return tmp_path


def test_the_small_tree_is_right(tree):
    assert problems(tree) == []
    assert Builds(tree).targets["//tests:sub_test_it"] == {
        "kind": "py_test",
        "label": "//tests:sub_test_it",
        "srcs": ["//tests:sub/test_it.py"],
        "args": ["tests/sub/test_it.py"],
        "data": ["//:pyproject.toml"],
        "legacy_create_init": 0,
        "main_module": "pytest",
        "deps": ["//tfflows:tfflows", "//zoo:zoo", "//tests:tests", "@pypi//pytest"],
    }


def test_files_that_come_and_go_need_no_change(tree):
    (tree / "tfflows/one.py").rename(tree / "tfflows/sub/one.py")
    (tree / "tfflows/__init__.py").write_text("from tfflows.sub import one\n")
    (tree / "tfflows/sub/two.py").write_text("import numpy\nfrom .one import x\n")
    (tree / "tests/sub/deeper").mkdir()
    (tree / "tests/sub/test_it.py").rename(tree / "tests/sub/deeper/test_it.py")
    (tree / "zoo/weights/a/c.json").write_text("{}")
    assert problems(tree) == []


@pytest.mark.parametrize(
    "file, text, problem",
    [
        ("scripts/new.py", "", "scripts/new.py: in 0 py_library"),
        ("new.py", "", "new.py: in 0 py_library"),
        ("tests/test_new.py", "", "tests/test_new.py: in 0 py_test where 1 is needed"),
        ("zoo/new/file.py", "", "zoo/new: no __init__.py, without which no wheel has it"),
        ("tfflows/one.py", "import scipy", "//tfflows:tfflows: dep @pypi//scipy is missing"),
        ("tfflows/one.py", "import zoo", "//tfflows:tfflows: dep //zoo:zoo is missing"),
        ("tfflows/sub/two.py", "", "//tfflows:tfflows: dep @pypi//numpy is not imported"),
        ("zoo/__init__.py", "", "//zoo:zoo: dep //tfflows:tfflows is not imported"),
        (
            "zoo/__init__.py",
            "import tfflows.no.x",
            "//zoo:zoo: dep a library with tfflows.no.x is missing",
        ),
        ("tests/helper.py", "import zoo", "//tests:tests: dep //zoo:zoo is missing"),
        (
            "tests/sub/test_it.py",
            "import numpy",
            "//tests:sub_test_it: dep @pypi//numpy is missing",
        ),
        ("tests/sub/test_zoo.py", "import tfflows", "dep //zoo:zoo of tests is not imported"),
        (
            "tests/sub/test_it.py",
            "from tests.sub import test_zoo",
            "//tests:sub_test_it: dep a library with tests/sub/test_zoo.py is missing",
        ),
        ("trainers/train.py", "", "trainers/train.py: in 1 py_binary where 0 is needed"),
        (
            "trainers/score.py",
            FILES["trainers/train.py"],
            "trainers/score.py: in 0 py_binary where 1 is needed",
        ),
        ("zoo/other/c.json", "{}", "zoo/other/c.json: in no data of //zoo"),
        ("trainers/py.typed", "", "trainers/py.typed: in no data of //trainers"),
        ("trainers/train.py", None, "//trainers:train: no //trainers:train.py"),
        ("pyproject.toml", None, "//:pyproject.toml: exported, but not there"),
        ("zoo/weights/a/b.h5", None, "zoo/BUILD: ValueError: weights/** matches nothing"),
        ("tools/BUILD", None, "zoo/BUILD: ValueError: //tools:python.bzl is in no package"),
        # A BUILD file ends the package above it.
        ("tfflows/sub/BUILD", "", "tfflows/sub/two.py: in 0 py_library"),
    ],
)
def test_a_change_of_the_tree_is_noticed(tree, file, text, problem):
    if text is None:
        (tree / file).unlink()
    else:
        (tree / file).parent.mkdir(exist_ok=True)
        (tree / file).write_text(text)
    assert problem in problems(tree)


@pytest.mark.parametrize(
    "file, old, new",
    [
        ("BUILD", ', "train"', ""),
        ("BUILD", "//zoo", "//trainers"),
        ("BUILD", "exports_files", "# exports_files"),
        ("BUILD", 'alias(name = "zoo"', 'import os\nalias(name = "zoo"'),
        ("tfflows/BUILD", '["**/*.py"]', '["*.py"]'),
        ("tfflows/BUILD", 'name = "tfflows"', 'name = "lib/tfflows"'),
        ("tfflows/BUILD", "@pypi//numpy", "@pypi//scipy"),
        ("tfflows/BUILD", '"@pypi//numpy", ', '"@pypi//numpy", "@pypi//numpy", '),
        ("tfflows/BUILD", ', "@pypi//tf_keras"', ""),
        ("tfflows/BUILD", "@rules_python//python:defs.bzl", "@other//python:defs.bzl"),
        ("tfflows/BUILD", '"@pypi//numpy"', '"@pypi//numpy", "//tests"'),
        ("tfflows/BUILD", '"@pypi//numpy"', '"@pypi//numpy", "//zoo"'),
        ("zoo/BUILD", "weights/**", "weights/**/*.json"),
        ("zoo/BUILD", '["py.typed"] + ', ""),
        ("trainers/BUILD", 'name = "train"', 'name = "score", src = "train.py"'),
        ("trainers/BUILD", "py_program(", "# py_program("),
        ("trainers/BUILD", 'deps = [":trainers"]', 'deps = ["//zoo"]'),
        ("tests/BUILD", ', exclude = ["**/test_*.py"]', ""),
        ("tests/BUILD", "    testonly = True,\n", ""),
        ("tests/BUILD", 'deps = ["//tfflows", ', "deps = ["),
        ("tests/BUILD", 'name = "sub"', 'name = "sub", srcs = ["sub/test_it.py"]'),
        ("tools/python.bzl", 'main_module = "pytest"', 'main_module = "unittest"'),
        ("tools/python.bzl", "legacy_create_init = 0,", "legacy_create_init = 1,"),
        ("tools/python.bzl", 'module.replace("/", ".")', "name"),
        ("tools/python.bzl", 'native.package_name() + "/" + src]', "src]"),
        ("tools/python.bzl", '"//:pyproject.toml"', ""),
        ("tools/python.bzl", '                "@pypi//pytest",\n', ""),
    ],
)
def test_a_change_of_a_build_file_is_noticed(tree, file, old, new):
    text = (tree / file).read_text()
    assert old in text
    (tree / file).write_text(text.replace(old, new))
    assert problems(tree)


def test_a_cycle_is_noticed(tree):
    (tree / "tfflows/one.py").write_text("import zoo\n")
    build = tree / "tfflows/BUILD"
    build.write_text(build.read_text().replace("deps = [", 'deps = ["//zoo", '))
    assert [problem.split(":")[0] for problem in problems(tree)] == ["a cycle"]
