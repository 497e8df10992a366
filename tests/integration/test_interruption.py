"""Interrupted runs go on: no noise, sample or budget is used twice, and nothing is lost."""

import errno
import json
import os
import signal
import subprocess
import time

import numpy as np
import pytest
from scipy import stats

import cloister
from cloister.errors import CloisterError, InputError, PlanMismatch
from cloister.ledger import Ledger
from cloister.models import load_model
from cloister.training import Interrupted, Observer
from cloister.training.checkpoint import read_checkpoint


class Crash(Observer):
    """Dies in a given step, as a killed process does: without a checkpoint."""

    def __init__(self, step):
        self.step = step

    def stepped(self, report):
        if report.step == self.step:
            raise SystemExit(137)


class Stop(Observer):
    """Asks to stop after a given step, as Ctrl-C does."""

    def __init__(self, step):
        self.step, self.now = step, 0

    def stepped(self, report):
        self.now = report.step

    def should_stop(self):
        return self.now >= self.step


def wait_for_step(run, step, process):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        checkpoint = read_checkpoint(run) if (run / "checkpoints").exists() else None
        if checkpoint and checkpoint.step >= step:
            return
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.005)
    pytest.fail("the run wrote no checkpoint")


def start(workplace):
    workplace.write_recipe(training={"steps": 3000, "checkpoint_every": 5, "learning_rate": 0.05})
    arguments = workplace.command("train", "recipe.toml", "--out", "run", "--home", workplace.home)
    process = subprocess.Popen(
        arguments, cwd=workplace.folder, env=workplace.environment(), stderr=subprocess.PIPE, text=True
    )
    wait_for_step(workplace.folder / "run", 10, process)
    return process


def test_kill_9_in_mid_run_and_resume(workplace):
    process = start(workplace)
    process.kill()
    process.communicate()
    left_at = read_checkpoint(workplace.folder / "run").step
    assert 10 <= left_at < 3000
    with Ledger.open(workplace.home) as ledger:
        (line,) = ledger.statement("ward").lines
    assert line.status == "reserved"
    record = workplace.json("train", "recipe.toml", "--out", "run", "--resume")
    with Ledger.open(workplace.home) as ledger:
        ledger.verify()
        (after,) = ledger.statement("ward").lines
    assert (after.status, after.reservation, after.event) == ("committed", line.reservation, line.event)
    assert record["steps"] == 3000
    assert record["guarantee"]["epsilon"] <= 2.0
    steps = [json.loads(line)["step"] for line in (workplace.folder / "run/diagnostics.jsonl").read_text().splitlines()]
    assert steps[-1] == 3000
    assert len(steps) == len(set(steps))


def test_ctrl_c_leaves_a_checkpoint_and_resume_goes_on(workplace):
    process = start(workplace)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "stopped after step" in errors
    assert "--resume" in errors
    stopped_at = read_checkpoint(workplace.folder / "run").step
    assert f"stopped after step {stopped_at} of 3000" in errors
    assert workplace.json("train", "recipe.toml", "--out", "run", "--resume")["steps"] == 3000


def test_a_second_process_takes_over_and_the_first_cannot_commit(workplace):
    workplace.write_recipe(training={"checkpoint_every": 5})
    out, recipe = workplace.folder / "run", workplace.folder / "recipe.toml"
    with Ledger.open(workplace.home) as ledger:

        class TakenOver(Observer):
            def stepped(self, report):
                if report.step == 15:
                    cloister.train(recipe, out=out, ledger=ledger, resume=True)

        with pytest.raises(PlanMismatch):
            cloister.train(recipe, out=out, ledger=ledger, observer=TakenOver())
        assert [line.status for line in ledger.statement("ward").lines] == ["committed"]


@pytest.mark.parametrize("change", ["recipe", "data"])
def test_a_run_only_goes_on_with_its_own_recipe_and_data(workplace, change):
    out, recipe = workplace.folder / "run", workplace.folder / "recipe.toml"
    with Ledger.open(workplace.home) as ledger:
        with pytest.raises(Interrupted):
            cloister.train(recipe, out=out, ledger=ledger, observer=Stop(7))
        if change == "recipe":
            workplace.write_recipe(training={"learning_rate": 0.1})
        else:
            workplace.write_table("train.csv", 400, seed=5)
        with pytest.raises(PlanMismatch, match=change):
            cloister.train(recipe, out=out, ledger=ledger, resume=True)
        assert [line.status for line in ledger.statement("ward").lines] == ["reserved"]


def test_a_crash_between_commit_and_record_is_finished_without_spending(workplace, monkeypatch):
    from cloister.training import run

    out, recipe = workplace.folder / "run", workplace.folder / "recipe.toml"
    with Ledger.open(workplace.home) as ledger:
        with monkeypatch.context() as patched:
            patched.setattr(run, "save_run", lambda *_, **__: (_ for _ in ()).throw(SystemExit(137)))
            with pytest.raises(SystemExit):
                cloister.train(recipe, out=out, ledger=ledger)
        spent = ledger.statement("ward").spent
        record = cloister.train(recipe, out=out, ledger=ledger, resume=True)
        assert ledger.statement("ward").spent == spent == pytest.approx(record.guarantee.epsilon)
        assert ledger.prove(record.spending.entry).kind == "commit"


def test_bought_statistics_are_bought_once(workplace):
    workplace.write_table("train.csv", 6000, seed=0)
    workplace.write_recipe(data_columns=None, data_statistics={"share": 0.5})
    out, recipe = workplace.folder / "run", workplace.folder / "recipe.toml"
    with Ledger.open(workplace.home) as ledger:
        with pytest.raises(Interrupted):
            cloister.train(recipe, out=out, ledger=ledger, observer=Stop(7))
        before = json.loads((out / "state.json").read_text())["encodings"]
        cloister.train(recipe, out=out, ledger=ledger, resume=True)
        _, config = load_model(out)
        assert json.loads((out / "state.json").read_text())["encodings"] == before
        column = config.preprocessing["columns"][0]
        assert (column["name"], column["features"]) == ("a", before["a"]["features"])


def test_a_full_disk_during_a_checkpoint_loses_nothing(workplace, monkeypatch):
    workplace.write_recipe(training={"checkpoint_every": 5})
    out, recipe = workplace.folder / "run", workplace.folder / "recipe.toml"
    real, calls = os.fsync, []

    def fsync(descriptor):
        if os.path.realpath(f"/proc/self/fd/{descriptor}").endswith(".part") and read_checkpoint(out):
            calls.append(descriptor)
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor)

    with Ledger.open(workplace.home) as ledger:
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", fsync)
            with pytest.raises(CloisterError, match="no space left on device") as caught:
                cloister.train(recipe, out=out, ledger=ledger)
        assert "free some space" in caught.value.hint
        assert calls
        assert read_checkpoint(out).step == 5
        assert not list(out.rglob("*.part"))
        assert cloister.train(recipe, out=out, ledger=ledger, resume=True).steps == 20


def test_a_checkpoint_of_another_run_is_never_taken_up(workplace):
    # Its weights carry the spending of that run, which the event of this one does not count.
    first, second, recipe = workplace.folder / "one", workplace.folder / "two", workplace.folder / "recipe.toml"
    with Ledger.open(workplace.home) as ledger:
        for out in (first, second):
            with pytest.raises(Interrupted):
                cloister.train(recipe, out=out, ledger=ledger, observer=Stop(7))
        (second / "checkpoints/latest.safetensors").write_bytes((first / "checkpoints/latest.safetensors").read_bytes())
        with pytest.raises(PlanMismatch, match="the checkpoint belongs to run"):
            cloister.train(recipe, out=second, ledger=ledger, resume=True)
        (first / "state.json").unlink()
        with pytest.raises(InputError, match="holds a run already"):
            cloister.train(recipe, out=first, ledger=ledger)
        assert [line.status for line in ledger.statement("ward").lines] == ["reserved", "reserved"]


def test_a_damaged_checkpoint_is_named(workplace):
    out, recipe = workplace.folder / "run", workplace.folder / "recipe.toml"
    with Ledger.open(workplace.home) as ledger:
        with pytest.raises(Interrupted):
            cloister.train(recipe, out=out, ledger=ledger, observer=Stop(7))
        path = out / "checkpoints/latest.safetensors"
        path.write_bytes(path.read_bytes()[:-10])
        with pytest.raises(InputError, match="cannot read checkpoint"):
            cloister.train(recipe, out=out, ledger=ledger, resume=True)


def weights_of(workplace, out, ledger, interrupt):
    """Final weights of a run whose gradients are zero, so that they are the sum of its noise."""
    recipe = workplace.folder / "recipe.toml"
    if interrupt:
        with pytest.raises(SystemExit):
            cloister.train(recipe, out=out, ledger=ledger, observer=Crash(interrupt))
        record = cloister.train(recipe, out=out, ledger=ledger, resume=True)
    else:
        record = cloister.train(recipe, out=out, ledger=ledger)
    model, _ = load_model(out)
    values = np.concatenate([tensor.numpy().ravel() for tensor in model.state_dict().values()])
    return values, record.plan.noise_stddev


@pytest.mark.slow
def test_resumed_runs_have_the_distribution_of_whole_ones(workplace):
    """Weights of 20 runs each way against N(0, steps * (rate * stddev / batch)^2).

    False-alarm rate 1e-4 each. Had the resumed run repeated the noise of the steps before the checkpoint, or
    skipped it, the variance would be off by a third or more, which the negative controls reject.
    """
    (workplace.folder / "still.py").write_text(
        "import torch\nfrom torch import nn\n\n"
        "class Still(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.layer = nn.Linear(200, 2)\n"
        "        nn.init.zeros_(self.layer.weight)\n        nn.init.zeros_(self.layer.bias)\n"
        "    def forward(self, x):\n"
        "        hidden = self.layer(torch.zeros(len(x), 200))\n        return hidden * 0.0\n\n"
        "def build(spec):\n    return Still()\n"
    )
    workplace.write_recipe(
        model={"name": "still:build"},
        training={"steps": 15, "momentum": 0.0, "learning_rate": 1.0, "checkpoint_every": 5},
    )
    with Ledger.open(workplace.home) as ledger:
        for interrupt in (0, 8):
            drawn = []
            for number in range(20):
                values, stddev = weights_of(workplace, workplace.folder / f"{interrupt}-{number}", ledger, interrupt)
                drawn.append(values)
            scale = np.sqrt(15) * stddev / 100
            drawn = np.concatenate(drawn)
            assert stats.kstest(drawn, "norm", args=(0, scale)).pvalue > 1e-4
            for wrong in (np.sqrt(20 / 15), np.sqrt(10 / 15)):
                assert stats.kstest(drawn, "norm", args=(0, scale * wrong)).pvalue < 1e-4


@pytest.mark.parametrize(
    "training",
    [
        {"momentum": 0.9, "schedule": "cosine"},
        {"optimizer": "adam", "learning_rate": 0.05, "ema": 0.9},
        {"optimizer": "adamw", "learning_rate": 0.05, "weight_decay": 0.1, "warmup_steps": 9},
        {"clipping": "adaptive"},
    ],
    ids=["sgd", "adam", "adamw", "adaptive"],
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_checkpoint_holds_all_that_a_run_needs(workplace, training, dtype):
    """Under one seed an interrupted run must end bit for bit where the whole one does."""
    settings = {"insecure_seed": True, "seed": 3, "evaluate_every": 4, **training}
    recipe = workplace.write_recipe(training=settings, performance={"dtype": dtype})
    with Ledger.open(workplace.home) as ledger:
        whole = cloister.train(recipe, out=workplace.folder / "whole", ledger=ledger)
        with pytest.raises(Interrupted):
            cloister.train(recipe, out=workplace.folder / "parts", ledger=ledger, observer=Stop(7))
        parts = cloister.train(recipe, out=workplace.folder / "parts", ledger=ledger, resume=True)
    assert parts.model_digest == whole.model_digest
    assert parts.utility_curve == whole.utility_curve
    assert parts.event == whole.event
