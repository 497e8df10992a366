"""Print the requirements of one dependency group of pyproject.toml (pip reads groups only since 25.1)."""

import sys
import tomllib
from pathlib import Path

groups = tomllib.loads(Path("pyproject.toml").read_text())["dependency-groups"]
print(" ".join(groups[sys.argv[1]]))  # noqa: T201
