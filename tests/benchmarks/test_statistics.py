"""Medians, spreads and what counts as worse."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.common.comparing import ALWAYS_ALLOWED, Incomparable, is_worse, regressions
from benchmarks.common.figures import Claim, Figures, Measured, Results
from benchmarks.common.statistics import Spread, quotients, spread

FIGURE = st.floats(1e-6, 1e6)
FIGURES = st.lists(FIGURE, min_size=3, max_size=12)
BETTER = st.sampled_from(["lower", "higher"])


def worse_by(spread_: Spread, factor: float, better: str) -> Spread:
    """The same figures, all of them worse by that factor."""
    change = factor if better == "lower" else 1 / factor
    return Spread(spread_.median * change, spread_.low * change, spread_.high * change, spread_.rounds)


@given(FIGURES)
def test_a_median_lies_between_its_quartiles_and_they_among_the_figures(figures):
    found = spread(figures)
    assert min(figures) <= found.low <= found.median <= found.high <= max(figures)
    assert found.rounds == len(figures)


def test_a_ratio_is_taken_within_a_round_so_that_what_disturbs_both_disturbs_nothing():
    assert quotients([2, 20, 4], [1, 10, 2]) == [2, 2, 2]
    with pytest.raises(ValueError, match="shorter"):
        quotients([1, 2], [1])


@given(FIGURES, BETTER)
def test_the_same_figures_are_never_worse(figures, better):
    assert not is_worse(spread(figures), spread(figures), better)


@given(FIGURES, st.floats(1, 100), BETTER)
def test_better_figures_are_never_worse(figures, factor, better):
    assert not is_worse(worse_by(spread(figures), factor, better), spread(figures), better)


@given(FIGURES, FIGURES, st.floats(1, 100), BETTER)
def test_what_is_worse_stays_so_when_it_gets_worse_still(old, new, factor, better):
    old, new = spread(old), spread(new)
    if is_worse(old, new, better):
        change = factor if better == "lower" else 1 / factor
        moved = Spread(new.median * change, new.low, new.high, new.rounds)
        assert is_worse(old, moved, better)


@given(FIGURES, FIGURES, st.sampled_from([2.0**n for n in range(-20, 20)]), BETTER)
def test_the_unit_does_not_matter(old, new, unit, better):
    scaled = [spread([value * unit for value in figures]) for figures in (old, new)]
    assert is_worse(spread(old), spread(new), better) == is_worse(*scaled, better)


@given(FIGURE, st.floats(1.35, 100), st.integers(3, 20), BETTER)
def test_without_noise_a_loss_beyond_what_is_always_allowed_counts(figure, factor, rounds, better):
    old = Spread(figure, figure, figure, rounds)
    assert is_worse(old, worse_by(old, factor, better), better)


@given(FIGURES, st.floats(1 - ALWAYS_ALLOWED + 0.01, 1 + ALWAYS_ALLOWED - 0.01), BETTER)
def test_a_small_difference_never_counts(figures, factor, better):
    old = spread(figures)
    assert not is_worse(old, Spread(old.median * factor, old.low, old.high, old.rounds), better)


@given(FIGURE, st.floats(0.3, 10), st.integers(3, 20))
def test_a_loss_within_the_rounds_own_spread_does_not_count(figure, part, rounds):
    old = Spread(figure, figure * (1 - part / 2), figure * (1 + part / 2), rounds)
    within = old.median + 1.4 * math.sqrt(2) * old.uncertainty
    assert not is_worse(old, Spread(within, old.low, old.high, rounds), "lower")


@given(FIGURE, st.integers(1, 2))
def test_with_too_few_rounds_to_see_a_spread_only_a_large_loss_counts(figure, rounds):
    old = Spread(figure, figure, figure, rounds)
    assert not is_worse(old, worse_by(old, 1.4, "lower"), "lower")
    assert is_worse(old, Spread(figure * 3, figure * 3, figure * 3, 9), "lower")


# --- whole results ----------------------------------------------------------------------------------------------------

CLAIM = Claim("a look-up / raw", ("ours", "p50"), ("raw", "p50"))
RATE = Claim("look-ups a second / raw", ("ours", "rate"), ("raw", "rate"), better="higher")


def results(ours: float, rate: float = 5.0, mode: str = "full") -> Results:
    figures = Figures()
    for scale in (1.0, 1.01, 0.99, 3.0):  # a disturbed round
        figures.note("raw", {"p50": scale, "rate": 10.0 / scale})
        figures.note("ours", {"p50": ours * scale, "rate": rate / scale})
    return Results(mode, {"lookup": Measured("here", figures)})


def test_what_got_worse_is_named_with_both_figures():
    (one,) = regressions([("lookup", CLAIM), ("lookup", RATE)], results(1.5), results(2.0))
    assert one.claim is CLAIM
    assert str(one).startswith("lookup: a look-up / raw was 1.5 and is 2 (quartiles")


def test_a_rate_is_worse_when_it_is_lower():
    (one,) = regressions([("lookup", CLAIM), ("lookup", RATE)], results(1.5, 5.0), results(1.5, 3.0))
    assert one.claim is RATE
    assert not list(regressions([("lookup", RATE)], results(1.5, 5.0), results(1.5, 8.0)))


def test_what_only_one_of_them_has_measured_is_not_compared():
    assert not list(regressions([("lookup", CLAIM)], Results("full"), results(9.0)))
    assert not list(regressions([("lookup", CLAIM)], results(1.0), Results("full")))
    absent = Claim("go", ("go", "p50"), ("raw", "p50"))
    assert not list(regressions([("lookup", absent)], results(1.0), results(9.0)))


def test_a_quick_run_is_not_compared_with_a_full_one():
    with pytest.raises(Incomparable, match="those of a quick run, these of a full one"):
        list(regressions([("lookup", CLAIM)], results(1.0, mode="quick"), results(1.0)))


def test_results_are_the_same_after_a_file(tmp_path):
    path = tmp_path / "results.json"
    path.write_text(results(1.5).text())
    assert Results.read(path) == results(1.5)
    assert Results.read(path).text() == path.read_text()


def test_results_of_another_format_are_refused(tmp_path):
    path = tmp_path / "results.json"
    path.write_text(results(1.5).text().replace('"format": 1', '"format": 0'))
    with pytest.raises(ValueError, match="in format 0, not in 1: measure again"):
        Results.read(path)
