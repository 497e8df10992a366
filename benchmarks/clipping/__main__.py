"""What private gradients cost: a whole training step against the non-private one.

    python -m benchmarks.clipping --json
    python -m benchmarks.clipping --epoch

All contenders take turns, step by step, so that whatever else the machine does hits them alike. Reported are the
median and quartiles of the step's time, and the median over the turns of its ratio to the non-private step of the
same turn. ``--epoch`` runs one pass over 60000 images (Fashion-MNIST where it is found under ``--data``, random ones
otherwise) with every contender but the oracle. ``make benchmark-environment`` installs Opacus, to compare with.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks.clipping.contenders import contenders

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import Tensor

    from benchmarks.clipping.contenders import Step

EPOCH_BATCH = 256
WARM_UP = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[256, 2048])
    parser.add_argument("--steps", type=int, default=30, help="turns that are timed, for each batch size")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help="cpu: on a machine shared with others")
    parser.add_argument("--epoch", action="store_true", help="one pass over 60000 images instead")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/fashion-mnist"))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    warnings.filterwarnings("ignore", message="Full backward hook is firing")
    clock = time.perf_counter if arguments.clock == "wall" else time.process_time
    result: dict[str, Any] = {"environment": _environment(arguments)}
    if arguments.epoch:
        steps = {name: step for name, step in contenders().items() if name != "materialized"}
        result["epoch"] = _measure(steps, _epoch(arguments.data), clock)
    else:
        for size in arguments.batch_sizes:
            batch = torch.randn(size, 1, 28, 28), torch.randint(0, 10, (size,))
            result[f"batch size {size}"] = _measure(contenders(), [batch] * arguments.steps, clock)
    print(json.dumps(result, indent=2) if arguments.json else _table(result))


def _measure(
    steps: dict[str, Step], batches: Iterable[tuple[Tensor, Tensor]], clock: Callable[[], float]
) -> dict[str, dict[str, float]]:
    batches = list(batches)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn, batch in enumerate([batches[0]] * WARM_UP + batches):
        for name, step in steps.items():
            start = clock()
            step(*batch)
            if turn >= WARM_UP:
                times[name].append(clock() - start)
    return {name: _summary(values, times["non-private"]) for name, values in times.items()}


def _summary(values: list[float], baseline: list[float]) -> dict[str, float]:
    low, median, high = statistics.quantiles(values, n=4)
    ratios = statistics.quantiles([v / b for v, b in zip(values, baseline, strict=True)], n=4)
    return {
        "total_seconds": sum(values),
        "milliseconds": 1e3 * median,
        "milliseconds_low_quartile": 1e3 * low,
        "milliseconds_high_quartile": 1e3 * high,
        "ratio": ratios[1],
        "ratio_low_quartile": ratios[0],
        "ratio_high_quartile": ratios[2],
    }


def _epoch(folder: Path) -> list[tuple[Tensor, Tensor]]:
    images, labels = folder / "train-images-idx3-ubyte.gz", folder / "train-labels-idx1-ubyte.gz"
    if images.exists() and labels.exists():
        pixels = np.frombuffer(gzip.decompress(images.read_bytes()), dtype=np.uint8, offset=16)
        x = torch.from_numpy(pixels.reshape(-1, 1, 28, 28).astype(np.float32) / 255.0)
        classes = np.frombuffer(gzip.decompress(labels.read_bytes()), dtype=np.uint8, offset=8)
        y = torch.from_numpy(classes.astype(np.int64))
    else:
        print(f"{images} is absent: random images instead", file=sys.stderr)
        x, y = torch.rand(60000, 1, 28, 28), torch.randint(0, 10, (60000,))
    order = torch.randperm(len(x))
    return [(x[some], y[some]) for some in torch.split(order, EPOCH_BATCH)]


def _environment(arguments: argparse.Namespace) -> dict[str, Any]:
    versions = {}
    for package in ("torch", "opacus"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "absent"
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "threads": arguments.threads,
        "clock": arguments.clock,
        "python": platform.python_version(),
        **versions,
    }


def _table(result: dict[str, Any]) -> str:
    lines = [", ".join(f"{key} {value}" for key, value in result.pop("environment").items())]
    for title, rows in result.items():
        lines += ["", f"{title:<20} {'ms (quartiles)':>28} {'ratio (quartiles)':>26} {'total s':>9}"]
        for name, row in rows.items():
            time_text = "{milliseconds:.2f} ({milliseconds_low_quartile:.2f} to {milliseconds_high_quartile:.2f})"
            ratio_text = "{ratio:.2f} ({ratio_low_quartile:.2f} to {ratio_high_quartile:.2f})"
            total = row["total_seconds"]
            lines.append(f"{name:<20} {time_text.format(**row):>28} {ratio_text.format(**row):>26} {total:>9.2f}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
