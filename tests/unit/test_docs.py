"""Documentation is executed: every Python block, every recipe, every link between pages."""

import doctest
import importlib
import pkgutil
import re
import tomllib
from pathlib import Path

import pytest

import cloister

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
MODULES = [i.name for i in pkgutil.walk_packages(cloister.__path__, "cloister.") if "__main__" not in i.name]


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=lambda p: str(p.relative_to(ROOT)))
def test_python_blocks_run_top_to_bottom(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLOISTER_HOME", str(tmp_path / "home"))
    namespace = {"__name__": "docs"}
    for number, block in enumerate(blocks(page, "python")):
        if ">>>" in block:
            test = doctest.DocTestParser().get_doctest(block, namespace, f"{page.name}:{number}", str(page), 0)
            runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
            runner.run(test, clear_globs=False)
            assert not runner.failures
            namespace = test.globs
        else:
            exec(compile(block, f"{page.name}:{number}", "exec"), namespace)


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "toml")], ids=lambda p: str(p.relative_to(ROOT)))
def test_toml_blocks_are_recipes(page):
    from cloister.training import Recipe

    for block in blocks(page, "toml"):
        table = tomllib.loads(block)
        whole = {"data": {"train": "a.csv"}, "privacy": {"private": False}, "training": {"steps": 1}} | table
        assert Recipe.from_table(whole)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if "://" not in target and not target.startswith("mailto:"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name):
    failures, _ = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert not failures


@pytest.mark.parametrize("recipe", sorted((ROOT / "examples").rglob("*.toml")), ids=lambda p: p.name)
def test_example_recipes_parse(recipe):
    from cloister.training import Recipe

    assert Recipe.load(recipe)


def test_every_verb_is_documented():
    from cloister.cli import cli

    pages = "".join(p.read_text() for p in PAGES)
    for verb in cli.list_commands(None):
        assert f"cloister {verb}" in pages


def test_the_papers_index_names_files_that_exist():
    rows = [row for row in (ROOT / "docs/papers.md").read_text().splitlines() if row.startswith("|")][2:]
    assert len(rows) >= 10
    for row in rows:
        module, test = row.split("|")[2:4]
        for path in re.findall(r"`((?:tests|examples|benchmarks)/[\w./*-]+)`", module + test):
            assert list(ROOT.glob(path)), path
        for name in re.findall(r"`((?:accounting|clipping|mechanisms|training|data|models)[\w.]*)`", module):
            source = ROOT / "src/cloister" / name.replace(".", "/")
            inner = source.parent.with_suffix(".py") if source.name[0].isupper() else source.with_suffix(".py")
            assert source.is_dir() or inner.exists(), name
