"""The commands that README and tutorial show are run, in order, as they stand there."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = {"README.md": r"^\$ (cloister .*)$", "docs/tutorials/first-private-model.md": r"^    (cloister .*)$"}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shown")
    assert cloister(folder, "cloister demo --out demo").returncode == 0
    return folder


def cloister(folder, command):
    words = shlex.split(command, comments=True)
    assert words[0] == "cloister"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, "-m", *words]
    return subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True)


def test_the_demo_ends_in_a_report_and_a_refusal(demo):
    assert "Privacy report" in (demo / "demo/report.html").read_text()
    assert (demo / "demo/digits/model.safetensors").exists()
    again = cloister(demo, "cloister demo --out demo --json")
    assert again.returncode == 0
    assert '"exit_code": 3' in again.stdout


@pytest.mark.parametrize("page", PAGES)
def test_shown_commands_run(demo, page):
    commands = re.findall(PAGES[page], (ROOT / page).read_text(), re.MULTILINE)
    assert len(commands) >= 5
    home = "home-" + Path(page).stem
    for command in commands:
        command = command.replace("my-home", home).replace("my-run", home + "-run")
        expected = 3 if "my-second-run" in command else 0
        done = cloister(demo, command)
        assert done.returncode == expected, f"{command}: {done.stderr}"
    assert (demo / f"{home}-run/report.html").exists()
