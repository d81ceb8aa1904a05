"""Programs and tests of a folder whose Python files are one py_library."""

load("@rules_python//python:defs.bzl", "py_binary", "py_test")

def py_program(name, deps, src = None, testonly = False):
    """What `python -m` runs.

    Args:
      name: of the target.
      deps: the library that the file is in.
      src: the file; that of the same name by default.
      testonly: whether the library is.
    """
    src = src or name + ".py"
    module = native.package_name() + "/" + src[:-len(".py")]
    py_binary(
        name = name,
        testonly = testonly,
        srcs = [src],
        # Else Bazel adds an empty __init__.py to every folder, also to those that have none.
        legacy_create_init = 0,
        main_module = module.replace("/", "."),
        deps = deps,
    )

def py_tests(name, deps, srcs = None, data = []):
    """A test for each file, under pytest: "zoo/test_files.py" is "zoo_test_files"; and a suite of them.

    Args:
      name: of the suite.
      deps: what the tests import beside pytest and the library of the folder.
      srcs: the files; by default the tests in the folder of the name.
      data: what the tests read.
    """
    tests = []
    for src in srcs or native.glob([name + "/**/test_*.py"]):
        test = src[:-len(".py")].replace("/", "_")
        tests.append(test)
        py_test(
            name = test,
            srcs = [src],
            args = [native.package_name() + "/" + src],
            # The settings of pytest.
            data = ["//:pyproject.toml"] + data,
            legacy_create_init = 0,
            main_module = "pytest",
            deps = deps + [
                "//" + native.package_name(),
                "@pypi//pytest",
            ],
        )
    native.test_suite(
        name = name,
        tests = tests,
    )
