"""The report as a reader, a screen reader and an attacker see it."""

import base64
import functools
import hashlib
import json
import re
import tomllib
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from click.testing import CliRunner

from cloister.accounting import Budget, Guarantee, SelfComposed
from cloister.errors import DigestMismatch, InputError, PlanMismatch
from cloister.records import write_record
from cloister.reports import report, write_report
from fakes.records import (
    DELTA,
    RUN,
    STEPS,
    cost,
    dataset_record,
    non_private_record,
    plan_record,
    spending_record,
    step_event,
    training_record,
    truncated_record,
)

VOID = {"meta", "br", "rect", "line", "circle", "path"}


class Page(HTMLParser):
    """Tags, texts by tag, attributes, and whether every element is closed."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.texts, self.attributes, self.stack = [], {}, [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.stack.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        for tag in set(self.stack):
            self.texts[tag][-1] += data

    def values(self, name):
        return [value for _, attribute, value in self.attributes if attribute == name]

    @property
    def text(self):
        return " ".join(self.texts["body"][0].split())


@functools.cache
def sample():
    return report(training_record())


def test_verdict_title_and_sections():
    page = Page(sample())
    assert page.stack == []
    assert page.texts["title"][0] == f"Privacy report: adult, run {RUN}"
    assert len(page.texts["h1"]) == 1
    assert page.texts["h2"] == [
        "What the guarantee means",
        "What is and is not protected",
        "Budget of the data set",
        "Utility",
        "How it was computed",
        "Reproduction",
        "Glossary",
    ]
    assert "Epsilon 2.77 at delta 1e-5, add-or-remove-one, per example." in page.text
    assert "What this model can reveal about any one example is limited by a proven bound." in page.text


def test_numbers_of_the_record_are_on_the_page():
    record, text = training_record(), Page(sample()).text
    for fact in ("84.8%", "0.3315", "32,561", "1,000", "41.2 s", "14,210", "0.01572", "1.04 times its sensitivity"):
        assert fact in text
    for digest in (
        record.digest,
        record.model_digest,
        record.dataset.digest,
        record.spending.head,
        record.spending.entry,
    ):
        assert digest in text
    for line in record.spending.lines:
        assert line.run in text
    assert "3.49 spent by all runs together" in text
    assert "4.51 left of a budget of 8" in text
    assert "1 in 100,000" in text


def test_epsilon_is_never_rounded_down():
    record = training_record(guarantee=Guarantee(epsilon=3.0001, delta=DELTA))
    assert "Epsilon 3.01 at" in report(record)


def test_what_is_not_protected_is_said():
    text = Page(sample()).text
    for item in (
        "diagnostics.jsonl",
        "The number of examples",
        "its metrics are released exactly",
        "a search for settings outside the ledger",
        "epsilon doubles to 5.54",
        training_record().not_protected[0],
    ):
        assert item in text


def test_recipe_reads_back_as_written():
    assert tomllib.loads(Page(sample()).texts["pre"][0]) == training_record().recipe


def test_same_record_gives_same_bytes():
    assert report(training_record()) == sample()


@pytest.mark.parametrize("make", [training_record, non_private_record])
def test_nothing_is_loaded_or_run(make):
    html = report(make())
    page = Page(html)
    assert not {"script", "link", "img", "iframe", "object", "embed", "form", "base"} & set(page.tags)
    assert not [n for _, n, _ in page.attributes if n.startswith("on") or n in ("style", "src", "srcset")]
    assert all(href.startswith("#") for href in page.values("href"))
    assert not re.search(r"https?:|url\(|@import", html)


def test_the_policy_allows_exactly_the_style_of_the_page():
    html = sample()
    [policy] = [v for t, n, v in Page(html).attributes if t == "meta" and n == "content" and "default-src" in v]
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def test_a_screen_reader_finds_names_for_everything():
    page = Page(sample())
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    for reference in page.values("aria-labelledby"):
        assert set(reference.split()) <= set(ids)
    assert {href[1:] for href in page.values("href")} <= set(ids)
    assert len(page.texts["caption"]) == page.tags.count("table")
    images = [v for t, n, v in page.attributes if t == "svg" and n == "role"]
    assert len(images) == page.tags.count("desc") == 5
    assert ("html", "lang", "en") in page.attributes
    levels = [int(tag[1]) for tag in page.tags if re.fullmatch("h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:], strict=False))


HOSTILE = "</td><script>alert(1)</script><img src=x onerror=\"a('b')\">&amp;{{ 7*7 }}"


def test_hostile_text_stays_text():
    base = training_record()
    record = replace(
        base,
        run=HOSTILE,
        recipe={HOSTILE: {HOSTILE: HOSTILE}},
        dataset=dataset_record(name=HOSTILE, notes=(HOSTILE,)),
        plan=plan_record(clipping=HOSTILE, optimizer=HOSTILE, engine=HOSTILE),
        test={HOSTILE: 0.5},
        utility_curve=((10, {HOSTILE: 0.5}),),
        spending=spending_record(
            head=HOSTILE,
            entry=HOSTILE,
            warnings=(HOSTILE,),
            lines=tuple(replace(n, run=HOSTILE, status=HOSTILE, time=HOSTILE) for n in base.spending.lines),
        ),
        versions={HOSTILE: HOSTILE},
        device=HOSTILE,
        not_protected=(HOSTILE,),
        notes=(HOSTILE,),
    )
    html = report(record)
    page = Page(html)
    assert page.stack == []
    assert not {"script", "img"} & set(page.tags)
    assert not [n for _, n, _ in page.attributes if n.startswith("on")]
    assert "<script" not in html
    assert "{{ 7*7 }}" in page.texts["h1"][0]
    assert HOSTILE in page.texts["title"][0]


def test_a_non_private_run_claims_nothing():
    html = report(non_private_record())
    text = Page(html).text
    assert '<div class="verdict bad"' in html
    assert text.index("This model carries no privacy guarantee.") < text.index("test accuracy")
    assert "What the guarantee means" not in text
    body = text[: text.index("Glossary accountant")]
    assert not re.search(r"epsilon \d|at most \d|proven|limited", body, re.IGNORECASE)


def test_empty_curves_leave_no_empty_figures():
    record = training_record(privacy_curve=(), utility_curve=(), test=None, spending=None)
    page = Page(report(record))
    assert page.tags.count("figure") == 1  # the attacker's ceiling needs no curve
    assert "No utility curve was recorded." in page.text
    assert "no final test metrics" in page.text
    assert "No ledger took part" in page.text


@pytest.mark.parametrize("curve", [((0, {"loss": 0.5}),), ((7, {"loss": None}), (9, {"loss": 0.0})), ((3, {}),)])
def test_curves_of_one_point_or_none_are_drawn(curve):
    html = report(training_record(utility_curve=curve, privacy_curve=((5, 0.0),)))
    assert "nan" not in re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL).lower().replace("finance", "")


def test_truncated_sampling_under_replace_special():
    text = Page(report(truncated_record())).text
    assert "at most 640 (truncated Poisson sampling)" in text
    assert "in the other, it had been blanked out" in text


def test_weak_seeded_and_overspent_are_said_at_the_top():
    event = SelfComposed(step_event(0.45), STEPS)
    spending = spending_record(budget=Budget(epsilon=3.0, delta=DELTA), epsilon_remaining=0.0, warnings=("drift",))
    record = training_record(
        event=event,
        guarantee=Guarantee(epsilon=cost(event), delta=DELTA),
        plan=plan_record(noise_multiplier=0.45, noise_stddev=0.45),
        spending=spending,
    )
    head = Page(report(record)).texts["header"][0]
    assert "is weak" in head
    assert "overspent" in head
    assert "The ledger warns: Drift." in head
    seeded = replace(record, recipe={"training": {"insecure_seed": True}})
    assert "do not know its seed" in Page(report(seeded)).texts["header"][0]


def test_a_released_reservation_does_not_count():
    base = spending_record()
    lines = (replace(base.lines[0], status="released", epsilon=90.0), *base.lines[1:])
    text = Page(report(training_record(spending=spending_record(lines=lines)))).text
    assert "released, does not count, 2026-01-12 09:20 UTC" in text
    assert "sum of their lines, 4.44:" in text


def test_without_a_budget_there_is_no_budget_bar_and_nothing_is_said_twice():
    record = training_record(
        spending=spending_record(budget=None, epsilon_remaining=None),
        not_protected=("the test set b.csv: its metrics are released exactly",),
    )
    page = Page(report(record))
    assert "has set no budget" in page.text
    assert "budget-bar-title" not in page.values("id")
    assert page.text.count("its metrics are released exactly") == 1


def test_adaptive_clipping_states_no_single_noise():
    text = Page(report(training_record(plan=plan_record(clipping="adaptive", noise_stddev=None)))).text
    assert "moves with the clip norm" in text


def test_a_careless_delta_is_said_at_the_top():
    assert "publishing some example outright" in report(training_record(examples=200_000))
    assert "publishing some example outright" not in sample()


def test_a_tampered_record_gets_no_report(tmp_path):
    claim = training_record().guarantee
    write_record(tmp_path, training_record(guarantee=replace(claim, epsilon=claim.epsilon / 2)))
    with pytest.raises(DigestMismatch):
        write_report(tmp_path)
    write_record(tmp_path, training_record(steps=STEPS + 1))
    with pytest.raises(PlanMismatch):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_the_report_lies_beside_the_record_or_where_it_is_wanted(tmp_path):
    write_record(tmp_path, training_record())
    assert write_report(tmp_path) == tmp_path / "report.html"
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == sample()
    assert write_report(tmp_path, tmp_path / "other.html") == tmp_path / "other.html"
    with pytest.raises(InputError, match=r"record\.json"):
        write_report(tmp_path / "absent")


def test_command_prints_the_path(tmp_path):
    from cloister.cli.report import report as command

    write_record(tmp_path, training_record())
    runner = CliRunner()
    result = runner.invoke(command, [str(tmp_path), "--out", str(tmp_path / "a.html")])
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(tmp_path / "a.html")
    assert "epsilon 2.769 at delta" in result.stderr
    result = runner.invoke(command, [str(tmp_path), "--json"])
    printed = json.loads(result.stdout)
    assert printed["report"] == str(tmp_path / "report.html")
    assert printed["record"] == training_record().digest
    assert printed["guarantee"]["accountant"] == "pld"
