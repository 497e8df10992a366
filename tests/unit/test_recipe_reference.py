"""The recipe reference names every setting, with its default."""

import dataclasses
from pathlib import Path

import pytest

from cloister.training import Performance, Privacy, Training

PAGE = (Path(__file__).parents[2] / "docs/reference/recipe.md").read_text()


@pytest.mark.parametrize("settings", [Privacy, Training, Performance], ids=lambda kind: kind.__name__)
def test_every_setting_is_documented_with_its_default(settings):
    section = PAGE.split(f"## `[{settings.__name__.lower()}]`")[1].split("\n## ")[0]
    for field in dataclasses.fields(settings):
        if field.name == "compile":  # accepted only as false
            continue
        rows = [row for row in section.splitlines() if row.startswith("|") and f"`{field.name}`" in row.split("|")[1]]
        assert rows, f"{field.name} is not documented"
        default = field.default
        if isinstance(default, bool):
            default = str(default).lower()
        if default is not None and default is not dataclasses.MISSING and default != ():
            assert str(default) in rows[0].split("|")[2], f"{field.name} has default {default}"
