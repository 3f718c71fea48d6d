import math

import numpy as np
from scipy import stats

from rctaf_jax.experiments.paper.differences import less_reference
from rctaf_jax.experiments.results.rows import load_results


def test_against_scipys_paired_test(make_folder, make_member, make_diverged):
    rng = np.random.default_rng(0)
    counts = {beta: rng.integers(100, 300, 6) for beta in (None, 0, 1)}
    rows = [
        make_member(beta, math.inf if beta is None else 7.0, seed, robust=int(own[seed]))
        for beta, own in counts.items()
        for seed in range(6)
    ]
    results = load_results(make_folder(rows, seeds=list(range(6))))
    found = less_reference(results.rows, "relu", "robust_correct")
    assert set(found) == {"rct-af:beta=0,alpha=28", "rct-af:beta=1,alpha=14"}
    for beta, text in ((0, "rct-af:beta=0,alpha=28"), (1, "rct-af:beta=1,alpha=14")):
        test = stats.ttest_rel(counts[beta] / 360, counts[None] / 360)
        low, high = test.confidence_interval(0.95)
        mean = np.mean(counts[beta] - counts[None]) / 360
        np.testing.assert_allclose(found[text], (mean, low, high), rtol=1e-10)


def test_seeds_that_both_have_and_two_are_no_interval(make_folder, make_member, make_diverged):
    rows = [make_member(None, math.inf, seed, clean=300 + seed) for seed in (0, 1, 2)]
    rows += [make_member(1, 7.0, seed, clean=318 + 3 * seed) for seed in (1, 2, 3)]
    rows.append(make_diverged(1, 7.0, 0, "NaN"))
    results = load_results(make_folder(rows, seeds=[0, 1, 2, 3]))
    (found,) = less_reference(results.rows, "relu", "clean_correct").values()
    np.testing.assert_allclose(found.mean, (20 + 22) / 2 / 360)
    assert not found.has_interval
    assert less_reference(results.rows, "gelu", "clean_correct") == {}
