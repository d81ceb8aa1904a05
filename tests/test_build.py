"""BUILD and MODULE.bazel against the tree: written without the code of tools/build_file.py.

BUILD is Python enough to be executed with functions that record the targets. `problems` says what
is wrong with a tree; the tests also damage a small tree in the ways that BUILD could rot, to see
that it notices.
"""

import ast
import fnmatch
import pathlib
import re
import subprocess
import sys

import pytest
from packaging.requirements import Requirement

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = ("tfflows", "zoo", "trainers")
PYPI_NAMES = {"PIL": "pillow", "absl": "absl_py", "sklearn": "scikit_learn"}


def python_files(root):
    """Every Python file of the repository, wherever it is, but for environments and outputs."""
    files = set()
    for path in root.rglob("*.py"):
        file = path.relative_to(root)
        hidden = any(part.startswith((".", "bazel-")) for part in file.parts)
        # Bazel puts other repositories under external/ beside the files of a test.
        if not hidden and file.parts[0] not in ("build", "dist", "external", "runs", "site"):
            files.add(str(file))
    return files


def read_build(root):
    """The targets of BUILD as dicts with their rule as "kind", and what it loads."""
    targets, loaded = [], {}

    def rule(kind):
        return lambda **attributes: targets.append({"kind": kind, **attributes})

    kinds = ("py_library", "py_binary", "py_test")
    scope = {kind: rule(kind) for kind in kinds}
    scope["load"] = lambda source, *names: loaded.update(dict.fromkeys(names, source))
    scope["glob"] = lambda patterns, allow_empty: patterns
    scope["package"] = lambda default_visibility: None
    exec(compile((root / "BUILD").read_text(), "BUILD", "exec"), scope)
    return targets, loaded


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


def needed_deps(root, file, names):
    """The deps a file's target needs, given the names of the targets of all files."""
    folder = pathlib.Path(file).parent
    around = {str(f / "__init__.py") for f in [folder, *folder.parents]} | {file}
    deps = set()
    for module, name in imports(root, file):
        top = module.split(".")[0]
        if (root / top).is_dir():
            files = (name and module_files(root, f"{module}.{name}")) or module_files(root, module)
            deps |= {f":{names.get(f, f)}" for f in (files or {f"? {module}"}) - around}
        elif top not in sys.stdlib_module_names:
            deps.add(f"@pypi//{PYPI_NAMES.get(top, top)}")
    if is_test(file):
        deps.add("@pypi//pytest")
        conftests = [str(f / "conftest.py") for f in [folder, *folder.parents]]
        deps |= {f":{names[f]}" for f in conftests if f in names}
    return deps


def is_test(file):
    return re.fullmatch(r"tests/(.*/)?test_\w+\.py", file) is not None


def needed_kind(root, file):
    if is_test(file):
        return "py_test"
    has_main = re.search(r'^if __name__ == "__main__":', (root / file).read_text(), re.MULTILINE)
    return "py_binary" if has_main else "py_library"


def problems(root):
    """What is wrong with a tree's BUILD, one line each."""
    found = []
    targets, loaded = read_build(root)
    by_file = {}
    for target in targets:
        if len(target["srcs"]) != 1:
            found.append(f"{target['name']}: {len(target['srcs'])} srcs")
        for file in target["srcs"]:
            by_file.setdefault(file, []).append(target)
        if loaded.get(target["kind"]) != "@rules_python//python:defs.bzl":
            found.append(f"{target['name']}: {target['kind']} is not from rules_python")
    names = {file: targets[0]["name"] for file, targets in by_file.items()}
    if len(set(names.values())) != len(names):
        found.append("two targets have one name")
    files = python_files(root)
    found += [f"{file}: no target" for file in files - by_file.keys()]
    found += [f"{file}: a target for a file that is not there" for file in by_file.keys() - files]
    for file in files & by_file.keys():
        if len(by_file[file]) != 1:
            found.append(f"{file}: {len(by_file[file])} targets")
        found += target_problems(root, file, by_file[file][0], names)
    return sorted(found + data_problems(root, targets))


def target_problems(root, file, target, names):
    found = []
    deps, needed = set(target.get("deps", [])), needed_deps(root, file, names)
    found += [f"{file}: dep {dep} is missing" for dep in needed - deps]
    found += [f"{file}: dep {dep} is not imported" for dep in deps - needed]
    kind = needed_kind(root, file)
    if target["kind"] != kind:
        found.append(f"{file}: {target['kind']} where {kind} is needed")
    if kind == "py_test" and (target.get("main_module"), target.get("args")) != ("pytest", [file]):
        found.append(f"{file}: does not run under pytest")
    module = file.removesuffix(".py").replace("/", ".")
    if kind == "py_binary" and target.get("main_module") != module:
        found.append(f"{file}: does not run as {module}")
    return found


def data_problems(root, targets):
    """Files of the packages beside Python files must be in the data of the package's target."""
    found = []
    for package in PACKAGES:
        patterns = next((t.get("data", []) for t in targets if t["name"] == package), [])
        for path in (root / package).rglob("*"):
            file = path.relative_to(root).as_posix()
            # fnmatch's * also matches /, as ** does.
            matched = any(fnmatch.fnmatch(file, p.replace("**/", "*")) for p in patterns)
            if path.is_file() and path.suffix not in (".py", ".pyc") and not matched:
                found.append(f"{file}: in no data of :{package}")
    return found


def test_build_fits_the_tree():
    files = python_files(ROOT)
    assert all(f"{package}/__init__.py" in files for package in PACKAGES)
    assert problems(ROOT) == []


def test_generator_agrees():
    command = [sys.executable, ROOT / "tools/build_file.py", "--check"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


def test_labels_of_pypi_are_locked():
    locked = set(lock())
    targets, _ = read_build(ROOT)
    labels = {dep for target in targets for dep in target.get("deps", []) if dep[0] == "@"}
    assert {label.removeprefix("@pypi//") for label in labels} <= locked


def test_lock_is_within_the_requirements():
    locked = lock()
    for file in ROOT.glob("requirements*.txt"):
        lines = [line for line in file.read_text().splitlines() if line and line[0] not in "# "]
        if file.name.startswith(("requirements-docs", "requirements-bench")):
            continue
        for requirement in map(Requirement, lines):
            version = locked[requirement.name.lower().replace("-", "_")]
            assert requirement.specifier.contains(version), f"{requirement} in {file.name}"


def lock():
    """Name (as in labels) -> version in the lock that MODULE.bazel names."""
    module = (ROOT / "MODULE.bazel").read_text()
    name = re.search(r'requirements_lock = "//:([\w.-]+)"', module)[1]
    pins = re.findall(r"^([\w.-]+)==(\S+)", (ROOT / name).read_text(), re.MULTILINE)
    return {name.lower().replace("-", "_"): version for name, version in pins}


def test_module_has_the_version_of_the_package():
    version = re.search(r'"(.+)"', (ROOT / "tfflows/_version.py").read_text().split("=")[1])[1]
    assert f'version = "{version}",' in (ROOT / "MODULE.bazel").read_text()


# A small tree with every kind of file, to damage.


FILES = {
    "requirements.txt": "absl-py>=2\nnumpy>=2\n",
    "pyproject.toml": '[tool.setuptools.package-data]\nzoo = ["py.typed", "presets/**/*.h5"]\n',
    "tfflows/__init__.py": "from tfflows import one\n",
    "tfflows/one.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import tfflows\n",
    "tfflows/sub/__init__.py": "from . import two\n",
    "tfflows/sub/two.py": "import numpy as np\nfrom tfflows.one import x\nfrom ..one import y\n",
    "zoo/__init__.py": "import tfflows.sub.two\n",
    "zoo/py.typed": "",
    "zoo/presets/a/b.h5": "",
    "trainers/__init__.py": "",
    "trainers/train.py": 'from absl import app\nimport zoo\nif __name__ == "__main__":\n    pass\n',
    "tests/conftest.py": "",
    "tests/helper.py": "",
    "tests/sub/test_it.py": "from tests import helper\nfrom tfflows import sub\n",
}


@pytest.fixture
def tree(tmp_path):
    for file, text in FILES.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text)
    generate(tmp_path)
    return tmp_path


def generate(root, *flags):
    command = [sys.executable, ROOT / "tools/build_file.py", "--root", root, *flags]
    return subprocess.run(command, capture_output=True, text=True)


def test_generated_build_of_the_small_tree(tree):
    assert problems(tree) == []
    targets, _ = read_build(tree)
    deps = {target["name"]: target.get("deps", []) for target in targets}
    assert deps == {
        "tests/conftest": [],
        "tests/helper": [],
        "tests/sub/test_it": [
            ":tests/conftest",
            ":tests/helper",
            ":tfflows",
            ":tfflows/sub",
            "@pypi//pytest",
        ],
        "tfflows": [":tfflows/one"],
        "tfflows/one": [],
        "tfflows/sub": [":tfflows/sub/two"],
        "tfflows/sub/two": [":tfflows/one", "@pypi//numpy"],
        "trainers": [],
        "trainers/train": [":zoo", "@pypi//absl_py"],
        "zoo": [":tfflows", ":tfflows/sub", ":tfflows/sub/two"],
    }


@pytest.mark.parametrize(
    "file, text, problem",
    [
        ("tfflows/new.py", "", "tfflows/new.py: no target"),
        ("scripts/new.py", "", "scripts/new.py: no target"),
        ("tfflows/one.py", None, "tfflows/one.py: a target for a file that is not there"),
        ("tfflows/one.py", "import numpy", "tfflows/one.py: dep @pypi//numpy is missing"),
        ("zoo/__init__.py", "", "zoo/__init__.py: dep :tfflows is not imported"),
        ("tests/helper.py", "import zoo", "tests/helper.py: dep :zoo is missing"),
        ("trainers/train.py", "", "trainers/train.py: py_binary where py_library is needed"),
        ("zoo/presets/a/c.json", "{}", "zoo/presets/a/c.json: in no data of :zoo"),
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
    "pattern, replacement",
    [
        (r'py_library\(\n    name = "tfflows",.*?\n\)\n', ""),
        (r'(py_library\(\n    name = "tfflows",.*?\n\)\n)', r"\1\1"),
        (r'"@pypi//numpy"', '"@pypi//scipy"'),
        (r'main_module = "pytest"', 'main_module = "unittest"'),
        (r'main_module = "trainers.train"', 'main_module = "train"'),
        (r'args = \["tests/sub/test_it.py"\]', 'args = ["tests"]'),
        (r"presets/\*\*/\*\.h5", "presets/**/*.json"),
        (r"@rules_python//python:defs.bzl", "//:other.bzl"),
    ],
)
def test_a_change_of_build_is_noticed(tree, pattern, replacement):
    build = tree / "BUILD"
    changed, count = re.subn(pattern, replacement, build.read_text(), count=1, flags=re.DOTALL)
    assert count == 1
    build.write_text(changed)
    assert problems(tree)
    assert generate(tree, "--check").returncode == 1


@pytest.mark.parametrize(
    "text, message",
    [
        ("import tfflows.nothing_here.x", "for which there is no file"),
        ("import scipy", "no requirements*.txt names scipy"),
        ("import zoo", "Import cycle, which Bazel refuses"),
    ],
)
def test_generator_refuses(tree, text, message):
    (tree / "tfflows/one.py").write_text(text)
    before = (tree / "BUILD").read_text()
    run = generate(tree)
    assert run.returncode == 1
    assert message in run.stderr
    assert (tree / "BUILD").read_text() == before


def test_missing_build_fails_the_check(tree):
    (tree / "BUILD").unlink()
    assert generate(tree, "--check").returncode == 1
