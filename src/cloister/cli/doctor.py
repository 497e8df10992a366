"""``cloister doctor``: what is installed, what is insecure, what to do."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import stat
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cloister._version import __version__
from cloister.cli._options import home_option, json_option
from cloister.cli._output import emit_json
from cloister.errors import CloisterError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["doctor"]

_EXTRAS = {
    "train": ("torch", "safetensors", "pyarrow", "tqdm", "scikit-learn"),
    "report": ("jinja2",),
    "postgres": ("psycopg",),
}
_MARKS = {"ok": "ok     ", "note": "note   ", "problem": "PROBLEM"}
_LOW_DISK = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    state: str  # ok, note or problem
    text: str
    advice: str | None = None


@click.command()
@home_option
@json_option
def doctor(home: Path, *, as_json: bool) -> int:
    """Check installation, home and ledger.

    Says what is installed, what is insecure and what to do about it; exits with 1 if something is wrong.
    """
    findings = [*_installation(), *_home(home), *_ledger(home), *_device()]
    if as_json:
        emit_json({"version": __version__, "findings": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            click.echo(f"{_MARKS[finding.state]}  {finding.subject}: {finding.text}")
            if finding.advice:
                click.echo(f"         {finding.advice}")
    return 1 if any(finding.state == "problem" for finding in findings) else 0


def _installation() -> Iterator[Finding]:
    python = ".".join(str(part) for part in sys.version_info[:3])
    yield Finding(subject="cloister", state="ok", text=f"{__version__} on Python {python}")
    for extra, packages in _EXTRAS.items():
        versions = {package: _version(package) for package in packages}
        missing = [package for package, version in versions.items() if version is None]
        if missing:
            advice = f"pip install 'cloister[{extra}]'"
            yield Finding(subject=extra, state="note", text=f"{', '.join(missing)} not installed", advice=advice)
        else:
            text = ", ".join(f"{package} {version}" for package, version in versions.items())
            yield Finding(subject=extra, state="ok", text=text)


def _home(home: Path) -> Iterator[Finding]:
    if not home.exists():
        yield Finding(subject="home", state="note", text=f"{home} does not exist yet; it is made when it is needed")
        return
    mode = stat.S_IMODE(home.stat().st_mode)
    if mode & 0o077:
        yield Finding(
            subject="home", state="problem", text=f"others may enter {home} (mode {mode:o})", advice=f"chmod 700 {home}"
        )
    elif not os.access(home, os.W_OK):
        yield Finding(
            subject="home", state="problem", text=f"{home} is not writable", advice="choose another with --home"
        )
    else:
        yield Finding(subject="home", state="ok", text=f"{home}, for its owner only")
    free = shutil.disk_usage(home).free
    low = free < _LOW_DISK
    yield Finding(
        subject="disk",
        state="problem" if low else "ok",
        text=f"{free / 2**30:.1f} GiB free at {home}",
        advice="free some space: a checkpoint that cannot be written stops a run" if low else None,
    )


def _ledger(home: Path) -> Iterator[Finding]:
    from cloister.ledger import Ledger, ledger_location

    location = ledger_location(home)
    if isinstance(location, Path) and not (location / "ledger.sqlite").exists():
        yield Finding(subject="ledger", state="note", text="none yet")
        return
    try:
        with Ledger.open(location) as ledger:
            head = ledger.verify()
            count = len(ledger.datasets())
    except CloisterError as error:
        yield Finding(subject="ledger", state="problem", text=str(error), advice=error.hint)
        return
    yield Finding(subject="ledger", state="ok", text=f"{count} data sets, chain intact, head {head[:19]}")


def _device() -> Iterator[Finding]:
    if _version("torch") is None:
        return
    import torch

    if torch.cuda.is_available():
        yield Finding(subject="device", state="ok", text=torch.cuda.get_device_name())
    else:
        yield Finding(subject="device", state="ok", text=f"CPU with {torch.get_num_threads()} threads")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
