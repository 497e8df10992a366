"""Augmentation, schedules, averaging of weights, checkpoints, run directories, memory estimates."""

import json
import math

import pytest
import torch

from cloister.errors import CloisterError, InputError, PlanMismatch
from cloister.training import Training
from cloister.training.augmentation import augment
from cloister.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from cloister.training.optimizer import WeightAverage, learning_rate_at, make_optimizer
from cloister.training.rundir import RunState, abandon_run, claim_run, read_state

IMAGES = torch.arange(3 * 1 * 8 * 8, dtype=torch.float32).view(3, 1, 8, 8)
TARGETS = torch.tensor([0, 1, 2])


class TestAugmentation:
    def test_views_of_an_example_stand_side_by_side(self):
        inputs, targets = augment((IMAGES, TARGETS), (), views=2)
        assert targets.tolist() == [0, 0, 1, 1, 2, 2]
        assert torch.equal(inputs, IMAGES[[0, 0, 1, 1, 2, 2]])

    def test_a_flip_mirrors_left_and_right_about_half_of_the_time(self):
        inputs, _ = augment((IMAGES, TARGETS), ("flip",), views=400)
        pairs = zip(inputs, IMAGES.repeat_interleave(400, dim=0), strict=True)
        kinds = ["same" if torch.equal(a, b) else "mirrored" if torch.equal(a, b.flip(-1)) else "?" for a, b in pairs]
        assert 500 < kinds.count("mirrored") < 700  # of 1200; outside once in 10^8
        assert kinds.count("?") == 0

    def test_a_crop_shifts_by_at_most_four_pixels(self):
        image = torch.zeros(1, 1, 21, 21)
        image[0, 0, 10, 10] = 1.0
        inputs, _ = augment((image, TARGETS[:1]), ("crop",), views=300)
        places = {tuple(view[0].nonzero()[0].tolist()) for view in inputs}
        assert all(6 <= row <= 14 and 6 <= column <= 14 for row, column in places)
        assert len({row for row, _ in places}) == len({column for _, column in places}) == 9

    def test_empty_batches_and_other_inputs(self):
        inputs, targets = augment((IMAGES[:0], TARGETS[:0]), ("crop", "flip"), views=3)
        assert (inputs.shape, len(targets)) == ((0, 1, 8, 8), 0)
        with pytest.raises(InputError, match=r"the inputs have shape \(5,\)"):
            augment((torch.zeros(2, 5), TARGETS[:2]), ("flip",), views=1)


class TestSchedule:
    def rate(self, step, **settings):
        return learning_rate_at(step, 100, Training(steps=100, learning_rate=2.0, **settings))

    def test_constant_stays(self):
        assert {self.rate(step) for step in (0, 50, 99)} == {2.0}

    def test_cosine_falls_from_all_to_nothing(self):
        assert self.rate(0, schedule="cosine") == 2.0
        assert self.rate(50, schedule="cosine") == pytest.approx(1.0)
        assert 0 < self.rate(99, schedule="cosine") < 0.001

    def test_warmup_rises_in_a_line(self):
        assert [self.rate(step, warmup_steps=4) for step in range(5)] == [0.5, 1.0, 1.5, 2.0, 2.0]


def test_the_average_follows_its_decay():
    weights = {"w": torch.zeros(1)}
    average = WeightAverage.of(weights, 0.9)
    expected = 0.0
    for step in range(200):
        weights["w"] = torch.tensor([float(step)])
        average.update(weights, step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    assert float(average.values["w"]) == pytest.approx(expected, rel=1e-5)
    assert expected < 199


@pytest.mark.parametrize(("name", "kind"), [("sgd", "SGD"), ("adam", "Adam"), ("adamw", "AdamW")])
def test_optimizers_are_torchs(name, kind):
    settings = Training(steps=1, optimizer=name, learning_rate=0.3, weight_decay=0.2)
    optimizer = make_optimizer({"w": torch.zeros(2)}, settings)
    assert type(optimizer).__name__ == kind
    assert (optimizer.defaults["lr"], optimizer.defaults["weight_decay"]) == (0.3, 0.2)


class TestCheckpoint:
    def test_it_comes_back_as_it_went(self, tmp_path):
        kept = Checkpoint(
            run="run-1", step=3, clip_norm=0.5, seconds=1.5, utility=((2, {"loss": 0.1}),), tensors={"w": torch.ones(2)}
        )
        write_checkpoint(tmp_path, kept)
        found = read_checkpoint(tmp_path)
        assert torch.equal(found.tensors["w"], kept.tensors["w"])
        assert (found.run, found.step, found.clip_norm) == ("run-1", 3, 0.5)
        assert (found.seconds, found.utility) == (1.5, ((2, {"loss": 0.1}),))

    def test_it_holds_no_key_and_is_for_its_owner(self, tmp_path):
        write_checkpoint(tmp_path, Checkpoint(run="run-1", step=1, tensors={"w": torch.ones(2)}))
        (path,) = (tmp_path / "checkpoints").iterdir()
        assert path.stat().st_mode & 0o077 == 0
        assert b"key" not in path.read_bytes()

    def test_another_version_is_refused(self, tmp_path):
        from safetensors.torch import save_file

        (tmp_path / "checkpoints").mkdir()
        meta = {"cloister": json.dumps({"schema": "cloister.checkpoint/99"})}
        save_file({"w": torch.ones(1)}, tmp_path / "checkpoints/latest.safetensors", metadata=meta)
        with pytest.raises(InputError, match="schema 'cloister.checkpoint/99'"):
            read_checkpoint(tmp_path)


class TestRunDirectory:
    planned = RunState(run="run-1", recipe="r", content="c", event="e")

    def test_a_claim_can_be_taken_up_again_and_given_up(self, tmp_path):
        run = tmp_path / "run"
        assert claim_run(run, self.planned, resume=False) == self.planned
        later = RunState(run="run-2", recipe="r", content="c", event="e")
        assert claim_run(run, later, resume=True).run == "run-1"
        abandon_run(run)
        assert claim_run(run, later, resume=False).run == "run-2"

    @pytest.mark.parametrize(("part", "text"), [("recipe", "recipe"), ("content", "training data"), ("event", "plan")])
    def test_what_changed_is_named(self, tmp_path, part, text):
        claim_run(tmp_path, self.planned, resume=False)
        changed = RunState(**{**vars(self.planned), part: "other"})
        with pytest.raises(PlanMismatch, match=f"the {text} ha.* changed since run run-1"):
            claim_run(tmp_path, changed, resume=True)

    @pytest.mark.parametrize("content", ["", "[]", '{"schema": "cloister.run/1"}', '{"schema": "x"}'])
    def test_a_damaged_state_is_named(self, tmp_path, content):
        (tmp_path / "state.json").write_text(content)
        with pytest.raises(InputError, match="state.json"):
            read_state(tmp_path)

    def test_a_place_that_cannot_be_written_is_named(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(CloisterError, match="cannot write .*file"):
            claim_run(tmp_path / "file/run", self.planned, resume=False)


def test_memory_grows_with_what_needs_it(tmp_path):
    from cloister.data import DataSpec
    from cloister.training import Recipe, estimate_memory

    def estimate(**sections):
        table = {"data": {"train": "a.npz"}, "privacy": {"private": False}, "training": {"steps": 1, "momentum": 0.0}}
        recipe = Recipe.from_table({**table, "model": {"name": "linear"}, **sections}, base=tmp_path)
        spec = DataSpec(task="classification", input_shape=(100,), num_outputs=10, classes=tuple("0123456789"))
        return estimate_memory(recipe, spec)

    plain = estimate()
    assert plain.parameters == 1010
    assert plain.weights == 4 * 1010 * 3  # weights, sum, noise
    assert estimate(training={"steps": 1, "optimizer": "adam"}).weights == 4 * 1010 * 5
    assert math.isclose(
        estimate(performance={"physical_batch_size": 512}).activations, 2 * plain.activations, rel_tol=0.01
    )
    materialized = estimate(performance={"engine": "materialized"})
    assert materialized.activations - plain.activations // 2 == pytest.approx(4 * 1010 * 256, rel=0.01)
