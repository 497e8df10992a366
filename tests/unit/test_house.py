"""Rules of the house: public surface, light import, size of modules and functions."""

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import cloister

SOURCE = Path(cloister.__file__).parent
MODULES = sorted(info.name for info in pkgutil.walk_packages([str(SOURCE)], "cloister.") if "__main__" not in info.name)
FILES = sorted(SOURCE.rglob("*.py"))
HEAVY = ("torch", "dp_accounting", "pyarrow", "jinja2", "sklearn")


def test_public_names():
    assert sorted(cloister.__all__) == ["Budget", "CloisterError", "DPSGD", "Guarantee", "Ledger", "report", "train"]
    for name in cloister.__all__:
        assert getattr(cloister, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'wrong'"):
        cloister.wrong


@pytest.mark.parametrize("statement", ["import cloister", "import cloister.cli; cloister.cli.main(['--help'])"])
def test_import_and_help_are_light(statement):
    code = f"import sys; {statement}; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")


@pytest.mark.parametrize(
    ("module", "statement", "extra"),
    [
        ("torch", "cloister.cli.main(['train', __file__, '--out', 'x'])", "train"),
        ("jinja2", "cloister.cli.main(['report', str(run)])", "report"),
        ("psycopg", "cloister.Ledger.open('postgresql://localhost/none')", "postgres"),
        ("torch", "cloister.train", "train"),
    ],
)
def test_a_missing_extra_is_an_error_that_prints_the_pip_line(module, statement, extra, tmp_path):
    from cloister.records import write_record
    from fakes.records import training_record

    write_record(tmp_path, training_record())
    script = tmp_path / "script.py"
    script.write_text(
        "import pathlib, sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {module!r}:\n"
        "            raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "import cloister, cloister.cli\n"
        f"run = pathlib.Path({str(tmp_path)!r})\n"
        "try:\n"
        f"    {statement}\n"
        "except cloister.CloisterError as error:\n    print(error, error.hint, file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, cwd=tmp_path)
    assert f"{module} is not installed" in done.stderr
    assert f"pip install 'cloister[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_a_verifier_needs_reaches_no_torch():
    code = (
        "import sys, cloister.accounting, cloister.ledger, cloister.records, cloister.reports;"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("name", MODULES)
def test_all_names_exist_and_are_documented(name):
    module = importlib.import_module(name)
    assert module.__doc__
    for public in getattr(module, "__all__", ()):
        assert hasattr(module, public)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_modules_and_functions_are_small(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 400, "a module has one noun and some 200 lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            length = body[-1].end_lineno - body[0].lineno + 1 if body else 0
            assert length <= 50, f"{node.name} has {length} lines"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_pickle_no_kwargs_no_simulation_randomness(path):
    text = path.read_text()
    tree = ast.parse(text)
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    assert not imported & {"pickle", "shelve", "marshal", "random", "numpy.random", "torchcsprng"}
    if not path.name.startswith("_"):
        loose = {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.args.kwarg}
        assert not loose & names_in_all(tree), "public functions have no **kwargs"


def test_the_command_line_offers_what_accounting_knows():
    from cloister.accounting import Relation, Unit
    from cloister.cli.budget import RELATIONS, UNITS

    assert set(UNITS) == set(Unit)
    assert set(RELATIONS) == set(Relation)


def names_in_all(tree):
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    return set()
