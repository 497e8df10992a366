"""The main job, from a recipe to a record, in one process."""

import json

import pytest
import torch

import cloister
from cloister.accounting import Budget, PoissonSampled, SelfComposed, epsilon, event_from_json
from cloister.errors import BudgetExceeded, InputError, UnsupportedLayer
from cloister.ledger import Ledger
from cloister.models import load_model
from cloister.training import Observer, Recipe


@pytest.fixture
def ledger(workplace):
    with Ledger.open(workplace.home) as ledger:
        yield ledger


def train(workplace, ledger, *, out="run", recipe="recipe.toml", **options):
    return cloister.train(workplace.folder / recipe, out=workplace.folder / out, ledger=ledger, **options)


def test_a_run_ends_with_a_model_a_record_and_a_committed_event(workplace, ledger):
    ledger.set_budget("ward", Budget(epsilon=3.0, delta=1e-4))
    record = train(workplace, ledger)
    stored = json.loads((workplace.folder / "run/record.json").read_text())
    assert stored["guarantee"]["relation"] == "add_or_remove_one"
    assert 1.9 < stored["guarantee"]["epsilon"] <= 2.0
    assert (stored["steps"], stored["examples"]) == (20, 400)
    assert stored["test"]["accuracy"] > 0.8
    event = event_from_json(stored["event"])
    assert isinstance(event, SelfComposed)
    assert event.event == PoissonSampled(100 / 400, event.event.event)
    assert epsilon(event, delta=1e-4) == pytest.approx(stored["guarantee"]["epsilon"])
    (line,) = ledger.statement("ward").lines
    assert (line.status, line.event, line.run) == ("committed", record.event, record.run)
    assert ledger.prove(record.spending.entry).body["event"] == stored["event"]
    curve = [value for _, value in record.privacy_curve]
    assert curve == sorted(curve)
    assert curve[-1] == pytest.approx(record.guarantee.epsilon)


def test_the_saved_model_gives_the_recorded_accuracy(workplace, ledger):
    from cloister.data import load, open_source
    from cloister.models import evaluate, loss_for

    record = train(workplace, ledger)
    model, _ = load_model(workplace.folder / "run")
    recipe = Recipe.load(workplace.folder / "recipe.toml")
    loaded = load(open_source(recipe.data, recipe.base), {})
    assert evaluate(model, loss_for("classification"), loaded.test, task="classification") == pytest.approx(record.test)


def test_the_ledger_is_asked_before_the_first_private_row(workplace, ledger, monkeypatch):
    from cloister.training import run

    seen = []

    def load(source, *arguments, **options):
        seen.extend(line.status for line in ledger.statement("ward").lines)
        raise InputError("stop here")

    monkeypatch.setattr(run, "load", load)
    monkeypatch.setattr("cloister.data.source.Source.count_bins", lambda *_: pytest.fail("rows were read"))
    with pytest.raises(InputError, match="stop here"):
        train(workplace, ledger)
    assert seen == ["reserved"]
    (line,) = ledger.statement("ward").lines
    assert line.status == "released"
    assert ledger.statement("ward").spent == 0


def test_a_plan_over_budget_is_refused_before_anything_is_read(workplace, ledger, monkeypatch):
    from cloister.training import run

    ledger.set_budget("ward", Budget(epsilon=2.5, delta=1e-4))
    train(workplace, ledger)
    monkeypatch.setattr(run, "load", lambda *_, **__: pytest.fail("rows were read"))
    with pytest.raises(BudgetExceeded, match=r"data set 'ward' has epsilon .* of 2\.5 left .*; this plan needs"):
        train(workplace, ledger, out="again")
    assert len(ledger.statement("ward").lines) == 1
    monkeypatch.undo()
    ledger.set_budget("ward", Budget(epsilon=9.0, delta=1e-4))
    train(workplace, ledger, out="again")  # the refusal has left nothing in the way


def test_several_runs_compose_as_events_not_as_sums(workplace, ledger):
    first, second = (train(workplace, ledger, out=name) for name in ("one", "two"))
    spent = ledger.statement("ward").spent
    assert max(first.guarantee.epsilon, second.guarantee.epsilon) < spent
    assert spent < 0.9 * (first.guarantee.epsilon + second.guarantee.epsilon)


def test_an_undeclared_column_is_paid_for(workplace, ledger):
    workplace.write_table("train.csv", 6000, seed=0)
    workplace.write_recipe(data_columns=None, data_statistics={"share": 0.5})
    record = train(workplace, ledger)
    statistics, steps = record.event.events
    assert statistics.tag == "gaussian"
    assert steps.count == 20
    assert record.guarantee.epsilon == pytest.approx(epsilon(record.event, delta=1e-4))
    assert record.guarantee.epsilon <= 2.0


def test_statistics_that_say_nothing_are_paid_for_all_the_same(workplace, ledger):
    # Whether noisy counts suffice is itself a noisy answer, and trying again until they do would leak.
    workplace.write_recipe(data_columns=None, privacy={"epsilon": 0.1})
    with pytest.raises(InputError, match="too few examples"):
        train(workplace, ledger)
    (line,) = ledger.statement("ward").lines
    assert (line.status, line.event.tag) == ("committed", "gaussian")


@pytest.mark.parametrize(
    "training",
    [
        {"clipping": "per_layer"},
        {"clipping": "automatic"},
        {"clipping": "adaptive"},
        {"clipping": "value", "clip_low": -0.5, "clip_high": 0.5},
        {"optimizer": "adam", "learning_rate": 0.05, "schedule": "cosine", "warmup_steps": 3},
        {"optimizer": "adamw", "learning_rate": 0.05, "weight_decay": 0.01, "ema": 0.9},
    ],
    ids=lambda training: "-".join(map(str, training.values())),
)
@pytest.mark.parametrize("engine", ["bookkeeping", "materialized"])
def test_every_clipping_and_optimizer_learns(workplace, ledger, training, engine):
    settings = {"steps": 60, "expected_batch_size": 200, **training}
    performance = {"engine": engine, "physical_batch_size": 32}
    workplace.write_recipe(training=settings, privacy={"epsilon": 20.0}, performance=performance)
    record = train(workplace, ledger)
    assert record.test["accuracy"] > 0.75
    assert record.plan.engine == ("materialized" if training.get("clipping") == "value" else engine)


def test_truncated_sampling_trains_under_its_own_relation(workplace, ledger):
    workplace.write_recipe(privacy={"relation": "replace_special"}, training={"max_batch_size": 130})
    record = train(workplace, ledger)
    assert record.guarantee.relation == "replace_special"
    assert record.event.event.tag == "truncated_poisson_gaussian"


def test_bfloat16_trains_and_releases_float32(workplace, ledger):
    workplace.write_recipe(performance={"dtype": "bfloat16"})
    assert train(workplace, ledger).test["accuracy"] > 0.75
    model, _ = load_model(workplace.folder / "run")
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_without_privacy_nothing_is_claimed(workplace, ledger):
    workplace.write_recipe(privacy={"epsilon": None, "delta": None, "private": False})
    record = train(workplace, ledger)
    assert record.guarantee is None
    assert record.to_json()["guarantee"] is None
    assert record.test["accuracy"] > 0.9
    assert ledger.statement("ward").spent == float("inf")


def test_an_insecure_seed_reproduces_and_its_absence_does_not(workplace, ledger):
    def weights(out):
        train(workplace, ledger, out=out)
        return load_model(workplace.folder / out)[0].state_dict()

    workplace.write_recipe(training={"seed": 7})
    fresh = [weights(out) for out in ("a", "b")]
    workplace.write_recipe(training={"seed": 7, "insecure_seed": True})
    seeded = [weights(out) for out in ("c", "d")]
    for name in fresh[0]:
        assert not torch.equal(fresh[0][name], fresh[1][name])
        assert torch.equal(seeded[0][name], seeded[1][name])
    stored = json.loads((workplace.folder / "c/record.json").read_text())
    assert any("seed" in item for item in stored["not_protected"])


def test_batch_norm_is_refused_by_name_and_costs_nothing(workplace, ledger):
    (workplace.folder / "mymodel.py").write_text(
        "from torch import nn\n\ndef build(spec):\n"
        "    return nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))\n"
    )
    workplace.write_recipe(model={"name": "mymodel:build"})
    with pytest.raises(UnsupportedLayer, match="BatchNorm1d") as caught:
        train(workplace, ledger)
    assert "Norm" in caught.value.hint
    assert ledger.statement("ward").spent == 0


def test_a_refused_model_pays_for_the_statistics_it_bought_and_no_more(workplace, ledger):
    (workplace.folder / "mixing.py").write_text(
        "from torch import nn\n\ndef build(spec):\n"
        "    return nn.Sequential(nn.BatchNorm1d(spec.input_shape[0]), nn.Linear(spec.input_shape[0], 2))\n"
    )
    workplace.write_table("train.csv", 6000, seed=0)
    statistics = {"data_columns": None, "data_statistics": {"share": 0.5}}
    workplace.write_recipe(model={"name": "mixing:build"}, **statistics)
    with pytest.raises(UnsupportedLayer):
        train(workplace, ledger)
    (line,) = ledger.statement("ward").lines
    assert (line.status, line.event.tag) == ("committed", "gaussian")


def test_a_model_that_mixes_examples_in_its_own_way_is_refused(workplace, ledger):
    (workplace.folder / "centering.py").write_text(
        "from torch import nn\n\nclass Centering(nn.Linear):\n"
        "    def forward(self, x):\n        return super().forward(x - x.mean(0))\n\n"
        "def build(spec):\n    return Centering(spec.input_shape[0], 2)\n"
    )
    workplace.write_recipe(model={"name": "centering:build"})
    with pytest.raises(UnsupportedLayer, match="mixes examples"):
        train(workplace, ledger)
    assert ledger.statement("ward").spent == 0


def test_a_run_directory_is_never_overwritten(workplace, ledger):
    train(workplace, ledger)
    before = (workplace.folder / "run/model.safetensors").read_bytes()
    with pytest.raises(InputError, match="holds a run already"):
        train(workplace, ledger)
    with pytest.raises(InputError, match="is complete"):
        train(workplace, ledger, resume=True)
    with pytest.raises(InputError, match="no interrupted run"):
        train(workplace, ledger, out="elsewhere", resume=True)
    assert (workplace.folder / "run/model.safetensors").read_bytes() == before
    assert len(ledger.statement("ward").lines) == 1


def test_a_diverging_run_commits_what_ran_and_cannot_go_on(workplace, ledger):
    from cloister.training import Diverged

    workplace.write_recipe(training={"learning_rate": 1e30, "checkpoint_every": 5, "weight_decay": 1.0})
    with pytest.raises(Diverged, match="is not finite"):
        train(workplace, ledger)
    (line,) = ledger.statement("ward").lines
    assert line.status == "committed"
    assert line.event.count == 5
    with pytest.raises(InputError, match="has ended"):
        train(workplace, ledger, resume=True)


def test_a_large_delta_is_warned_about(workplace, ledger):
    notes = []

    class Listener(Observer):
        def note(self, text):
            notes.append(text)

    workplace.write_recipe(privacy={"delta": 0.01})
    record = train(workplace, ledger, observer=Listener())
    assert any("delta 0.01 is not below 1/400" in text and "rows outright" in text for text in notes)
    assert any("delta 0.01" in text for text in record.notes)


def test_diagnostics_are_for_the_owner_only_and_in_no_record(workplace, ledger):
    train(workplace, ledger)
    path = workplace.folder / "run/diagnostics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 21))
    assert path.stat().st_mode & 0o077 == 0
    record = (workplace.folder / "run/record.json").read_text()
    assert "batch_size" not in json.loads(record)
    assert repr(lines[-1]["loss"]) not in record


def test_performance_settings_change_nothing_but_speed(workplace, ledger):
    def weights(out, **performance):
        training = {"insecure_seed": True, "augmentation_multiplicity": 2}
        workplace.write_recipe(training=training, performance=performance)
        record = train(workplace, ledger, out=out)
        state = load_model(workplace.folder / out)[0].state_dict()
        return record.event, torch.cat([tensor.flatten() for tensor in state.values()])

    event, reference = weights("one", engine="materialized", physical_batch_size=4096)
    for number, (engine, size) in enumerate([("materialized", 7), ("bookkeeping", 4096), ("bookkeeping", 7)]):
        other_event, other = weights(str(number), engine=engine, physical_batch_size=size)
        assert other_event == event
        assert torch.allclose(other, reference, atol=1e-5)


def test_empty_batches_take_noisy_steps_too(workplace, ledger):
    # With one example expected among 400, about a third of the batches are empty.
    workplace.write_recipe(training={"expected_batch_size": 1, "learning_rate": 0.001, "steps": 60})
    sizes = []

    class Listener(Observer):
        def stepped(self, report):
            sizes.append(report.batch_size)

    record = train(workplace, ledger, observer=Listener())
    assert sizes.count(0) >= 5  # 22 expected; fewer than 5 once in a million runs
    assert len(sizes) == record.event.count == 60
