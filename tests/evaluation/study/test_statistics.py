"""What votes prove: each number against an independent computation of it."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import scipy.stats

from darkroom.errors import InputError
from darkroom.evaluation.share import wilson
from darkroom.evaluation.study.agreement import alpha
from darkroom.evaluation.study.elo import elo
from darkroom.evaluation.study.fragile import fragility
from darkroom.evaluation.study.stopping import decide, evidence, interval
from darkroom.evaluation.study.strength import ELO, strengths
from darkroom.evaluation.study.tally import Ballot, Tally, tally

TRUE = np.array([0.6, 0.1, -0.7])


def drawn(rng: np.random.Generator, count: int, tie: float, items: int = 40) -> list[Ballot]:
    """Votes of people who follow Davidson's model."""
    ballots = []
    for n in range(count):
        i, j = rng.choice(3, 2, replace=False)
        d = TRUE[i] - TRUE[j]
        weights = np.exp([d / 2, -d / 2, tie])
        outcome = rng.choice(3, p=weights / weights.sum())
        ballots.append(Ballot(int(i), int(j), (int(i), int(j), None)[outcome], n % items))
    return ballots


def test_counts_are_those_of_the_votes() -> None:
    votes = tally([Ballot(0, 1, 0, 5), Ballot(1, 0, 0, 5), Ballot(1, 0, None, 2), Ballot(2, 1, 1, 9)], 3)
    assert votes.wins.shape == (3, 3, 3)
    assert votes.votes == 4
    assert votes.pairs == [(0, 1), (1, 2)]
    assert votes.share(0, 1) == (pytest.approx(2.5 / 3), 3)
    assert votes.share(1, 0) == (pytest.approx(0.5 / 3), 3)
    assert np.isnan(votes.share(0, 2)[0])


def test_the_interval_of_a_share_is_scipys() -> None:
    for k, n in ((0, 5), (3, 10), (57, 100)):
        found = scipy.stats.binomtest(k, n).proportion_ci(method="wilson")
        assert wilson(k / n, n) == pytest.approx((found.low, found.high), abs=1e-12)


@pytest.mark.parametrize("tie", [-0.3, -np.inf])
def test_strengths_maximize_davidsons_likelihood(tie: float) -> None:
    ballots = drawn(np.random.default_rng(1), 300, tie)
    found = strengths(tally(ballots, 3))

    def negative(free: np.ndarray) -> float:  # in Davidson's own terms: worths and ν
        worth, nu = np.exp([0.0, *free[:2]]), (np.exp(free[2]) if len(free) > 2 else 0.0)
        total = 0.0
        for b in ballots:
            a, c = worth[b.left], worth[b.right]
            z = a + c + nu * np.sqrt(a * c)
            total -= np.log((nu * np.sqrt(a * c) if b.winner is None else worth[b.winner]) / z)
        return total

    best = scipy.optimize.minimize(negative, np.zeros(3 if np.isfinite(tie) else 2), method="BFGS", tol=1e-10)
    expected = np.array([0.0, *best.x[:2]])
    np.testing.assert_allclose(found.values, expected - expected.mean(), atol=1e-5)
    if np.isfinite(tie):
        assert found.tie == pytest.approx(best.x[2], abs=1e-5)
    else:
        assert found.tie is None


def test_the_interval_of_a_gap_is_that_of_the_curvature_and_wider_for_votes_that_repeat_each_other() -> None:
    ballots = [Ballot(0, 1, 0, i) for i in range(30)] + [Ballot(0, 1, 1, 30 + i) for i in range(15)]
    gap, reach = strengths(tally(ballots, 2)).gap(0, 1)
    assert gap == pytest.approx(ELO * np.log(2))
    # The logit of 30 of 45 has the variance 1/30 + 1/15; clusters of one vote add the factor 45/44.
    assert reach == pytest.approx(1.959964 * ELO * np.sqrt((1 / 30 + 1 / 15) * 45 / 44), rel=1e-5)
    fourfold = [Ballot(0, 1, b.winner, b.item) for b in ballots for _ in range(4)]
    again = strengths(tally(fourfold, 2))
    assert again.gap(0, 1) == (pytest.approx(gap), pytest.approx(reach, rel=1e-5))
    apart = [Ballot(0, 1, b.winner, n) for n, b in enumerate(fourfold)]
    assert strengths(tally(apart, 2)).gap(0, 1)[1] == pytest.approx(reach / 2, rel=0.02)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng, held = np.random.default_rng(2), 0
    for _ in range(100):
        gap, reach = strengths(tally(drawn(rng, 120, -0.5), 3)).gap(0, 2)
        held += abs(gap - ELO * (TRUE[0] - TRUE[2])) <= reach
    assert 90 <= held <= 100


def test_strengths_that_no_vote_bounds_are_refused() -> None:
    with pytest.raises(InputError, match="no bound yet"):
        strengths(tally([Ballot(0, 1, 0, 0), Ballot(1, 2, 1, 0), Ballot(2, 1, 2, 0)], 3))
    won_or_tied = [Ballot(0, 1, 0, 0), Ballot(0, 1, None, 0)]  # ties do not bound a strength by themselves
    with pytest.raises(InputError, match="no bound yet"):
        strengths(tally(won_or_tied, 2))
    others_decide = [Ballot(0, 1, 0, 0), Ballot(0, 1, 1, 0), Ballot(1, 2, None, 0)]  # θ is bounded by the first two
    np.testing.assert_allclose(strengths(tally(others_decide, 3)).values, 0, atol=1e-9)
    with pytest.raises(InputError, match="no vote prefers a picture"):
        strengths(tally([Ballot(0, 1, None, 0)], 2))


def test_ranks_are_equal_where_the_interval_reaches_zero() -> None:
    ballots = drawn(np.random.default_rng(3), 400, -1)
    assert strengths(tally(ballots, 3)).ranks == [1, 2, 3]
    few = [Ballot(0, 1, 0, 0), Ballot(0, 1, 1, 1), Ballot(0, 1, 0, 2)]
    assert strengths(tally(few, 2)).ranks == [1, 1]


def test_elo_follows_the_formula_in_every_order() -> None:
    ballots = [Ballot(0, 1, 0, 0), Ballot(1, 2, None, 0), Ballot(2, 0, 2, 0)]

    def played(order: tuple[int, ...]) -> np.ndarray:
        points = np.full(3, 1000.0)
        for n in order:
            b = ballots[n]
            score = 0.5 if b.winner is None else float(b.winner == b.left)
            change = score - 1 / (1 + 10 ** ((points[b.right] - points[b.left]) / 400))
            points[b.left] += change
            points[b.right] -= change
        return points

    orders = [played(o) for o in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))]
    found = elo(ballots, 3, shuffles=4000)
    np.testing.assert_allclose(found, np.mean(orders, axis=0), atol=2e-4)
    assert found.sum() == pytest.approx(3000)
    np.testing.assert_allclose(elo([Ballot(0, 1, 0, 0)], 2), [1000.5, 999.5])


def fewest(ballots: list[Ballot], candidates: int) -> int:
    """Counted out: the fewest votes without which another one is first."""
    votes = tally([Ballot(b.left, b.right, b.winner, 0) for b in ballots], candidates)
    first = int(strengths(votes).values.argmax())
    sorts = [(votes.wins, i, j) for i, j in zip(*np.nonzero(votes.wins[0]))]
    best = len(ballots)
    for taken in product(*(range(int(m[0, i, j]) + 1) for m, i, j in sorts)):
        if sum(taken) >= best:
            continue
        wins = votes.wins.copy()
        for k, (_, i, j) in zip(taken, sorts):
            wins[0, i, j] -= k
        try:
            values = strengths(Tally(wins, votes.ties)).values
        except InputError:
            continue
        if values.max() > values[first] + 1e-9:
            best = sum(taken)
    return best


def test_the_votes_that_decide_are_as_few_as_counting_out_finds() -> None:
    two = [Ballot(0, 1, 0, 0)] * 9 + [Ballot(0, 1, 1, 0)] * 6
    found = fragility(tally(two, 2))
    assert (found.first, found.second, found.dropped, found.votes) == (0, 1, 4, 15)
    three = [
        *[Ballot(0, 1, 0, 0)] * 4,
        *[Ballot(0, 1, 1, 0)] * 2,
        *[Ballot(1, 2, 1, 0)] * 3,
        *[Ballot(1, 2, 2, 0)] * 2,
        *[Ballot(0, 2, 0, 0)] * 3,
        *[Ballot(0, 2, 2, 0)] * 2,
    ]
    assert fragility(tally(three, 3)).dropped == fewest(three, 3)


def test_evidence_is_the_mean_of_all_coins_against_the_fair_one() -> None:
    for won, lost in ((0, 0), (5, 0), (13, 7)):
        mean, _ = scipy.integrate.quad(lambda p: p**won * (1 - p) ** lost, 0, 1)  # noqa: B023
        assert evidence(won, lost) == pytest.approx(mean * 2.0 ** (won + lost), rel=1e-9)
    low, high = interval(13, 7)
    assert low < 0.65 < high
    assert evidence(13, 7, low) == pytest.approx(20, rel=1e-6)
    assert evidence(13, 7, high) == pytest.approx(20, rel=1e-6)
    assert interval(0, 0) == (0.0, 1.0)


def test_looking_after_every_vote_cries_wolf_no_more_than_allowed() -> None:
    rng = np.random.default_rng(4)
    votes = rng.random((400, 300)) < 0.5
    wins = votes.cumsum(axis=1)
    n = np.arange(1, 301)
    bound = [next(w for w in range(k // 2, k + 2) if w > k or evidence(w, k - w) >= 20) for k in n]
    crossed = ((wins >= bound) | (n - wins >= bound)).any(axis=1).mean()
    assert 0 < crossed <= 0.05


def test_a_pair_is_decided_when_its_votes_prove_it() -> None:
    assert decide(0, 0).verdict == "open"
    assert decide(15, 1).verdict == "better"
    assert decide(1, 15).verdict == "worse"
    assert decide(15, 5).verdict == "open"
    assert decide(15, 5, pairs=1).more is not None
    assert decide(2000, 2000).verdict == "equal"
    more = decide(15, 5).more
    assert more is not None
    n = 20 + more
    assert decide(round(0.75 * n), n - round(0.75 * n)).verdict == "better"
    assert decide(16, 3).verdict == "better"
    assert decide(16, 3, pairs=10).verdict == "open"


def test_agreement_is_krippendorffs() -> None:
    # The example of Krippendorff (2011), nominal data with missing values: 0.743.
    observers = ["123321412***", "12332241253*", "*3332241251*", "1**321412513"]
    columns = [[o[i] for o in observers if i < len(o) and o[i] != "*"] for i in range(12)]
    # (the table's columns, read by unit)
    assert alpha(columns) == pytest.approx(counted_alpha(columns))
    assert alpha([["a", "a"], ["b", "b"]]) == 1
    assert np.isnan(alpha([["a"], ["b"]]))


def counted_alpha(columns: list[list[str]]) -> float:
    """By the coincidence matrix, as the paper has it."""
    names = sorted({v for c in columns for v in c})
    matrix = np.zeros((len(names), len(names)))
    for c in columns:
        for i, a in enumerate(c):
            for j, b in enumerate(c):
                if i != j:
                    matrix[names.index(a), names.index(b)] += 1 / (len(c) - 1)
    n_c = matrix.sum(axis=1)
    n = n_c.sum()
    expected = np.outer(n_c, n_c) / (n - 1)
    off = ~np.eye(len(names), dtype=bool)
    return 1 - matrix[off].sum() / expected[off].sum()
