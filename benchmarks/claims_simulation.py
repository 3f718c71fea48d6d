"""How often verdicts are wrong, and how often there is one: sweeps whose truth is known.

    OPENBLAS_NUM_THREADS=1 python benchmarks/claims_simulation.py

Truths and draws are NumPy's and SciPy's alone; only the judge is the package's. A sweep has three
betas with the same truth over curvature, and a baseline as good as a curvature of 7. A network
has an image right if a normal number lies below a threshold that gives its accuracy; the number
is the image's, the image's with that activation, and the network's own. So seeds, activations and
test images are all drawn again every time. In points of robust accuracy:

    accuracy = 50 + truth(curvature) + seed (sd 1.5) + noise (sd 0.8, or 4 times that above 20).

"Supported" is wrong of a peak where the best tried curvature, or the truth's own highest place,
is outside 4 to 10, or where one outside is as good; "not supported" where none of that is so. A
slope's sign is wrong if it is not that of least squares through the truth. Level truths make
every verdict wrong.
"""

import gc
import math
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import numpy as np
import tyro
from harness import save, start
from rich.console import Console
from rich.table import Table
from scipy.special import ndtri

from rctaf_jax.experiments.claims.evidence import ROBUST, measure_quantity
from rctaf_jax.experiments.claims.registry import CLAIMS, judge_claim
from rctaf_jax.experiments.results.row import Row
from rctaf_jax.experiments.results.rows import Results
from rctaf_jax.experiments.results.studies import Study

Truth = Callable[[np.ndarray], np.ndarray]
"""log2 of curvatures to points."""
LOW, HIGH, CHOSEN = math.log2(4), math.log2(10), math.log2(7)
MIDDLE = (LOW + HIGH) / 2
BETAS, FACTOR = (0, 1, 2), {0: 4.0, 1: 2.0, 2: 1.0}
BASE, SEED_SD, NOISE_SD = 50.0, 1.5, 0.8
SHARED_BY_ALL, SHARED_BY_SEEDS = 0.92, 0.95
"""Correlations of the normal numbers of two activations, and of two seeds of one."""
NUM_CLASSES = 10


def peaked(at: float, rise: float, fall: float) -> Truth:
    """Straight up to a place and down from it, points for each doubling."""
    return lambda x: np.where(x < math.log2(at), rise, -fall) * (x - math.log2(at))


TRUTHS: dict[str, Truth] = {
    "flat": lambda x: 0.0 * x,
    "rising": lambda x: 0.8 * x,
    "falling": lambda x: -0.8 * x,
    "plateau from 2": lambda x: 1.5 * np.minimum(x - 1, 0),
    "plateau to 20": lambda x: -1.5 * np.maximum(x - math.log2(20), 0),
    "peak at 3, 4 up, 0.3 down": peaked(3.0, 4.0, 0.3),
    "peak at 12.5, 0.3 up, 4 down": peaked(12.5, 0.3, 4.0),
    "power": lambda x: 8 * (1 - 2 ** (-0.5 * (x + 1))),
    "two peaks, outside": lambda x: -2 * np.minimum(abs(x - 1), abs(x - math.log2(15))),
    "quadratic at 1": lambda x: -0.3 * x**2,
    "tent": lambda x: -2 * abs(x - MIDDLE),
    "steep tent": lambda x: -4 * abs(x - MIDDLE),
    "quadratic": lambda x: -1.0 * (x - MIDDLE) ** 2,
}
GRIDS = {
    "sweep": (0.5, 2.0, 4.0, 7.0, 15.0, 50.0),
    "eleven": (0.5, 1.0, 2.0, 2.8, 4.0, 5.6, 7.0, 10.0, 14.0, 20.0, 50.0),
    "few": (1.0, 4.0, 7.0, 20.0),
}
SIZES = ((1, 360), (2, 360), (3, 360), (5, 1000), (10, 1000), (20, 2000))
"""Seeds and test images."""
NOISES = ("equal", "unequal", "diverging")
PEAK, RISES, FALLS = (CLAIMS[place].name for place in (0, 2, 3))
JOINT = ", all β together"
ORGANISES, FASTEST, BASELINES = (CLAIMS[place].name for place in (1, 4, 5))


@dataclass(frozen=True)
class Config:
    """What is drawn."""

    repeats: int = 4
    """Sweeps of each truth, grid, size and noise."""
    truths: tuple[str, ...] = tuple(TRUTHS)
    grids: tuple[str, ...] = tuple(GRIDS)
    noises: tuple[str, ...] = NOISES
    sizes: tuple[int, ...] = tuple(range(len(SIZES)))
    """Places in the list of seeds and test images."""
    seed: int = 0
    workers: int = 2
    save: bool = True


class Cell(NamedTuple):
    """One kind of sweep."""

    truth: str
    grid: str
    num_seeds: int
    num_images: int
    noise: str


def draw_study(cell: Cell, rng: np.random.Generator) -> Study:
    """A sweep with its rows and outcomes, as `open_study` would read them."""
    x = np.log2(GRIDS[cell.grid])
    truth = TRUTHS[cell.truth]
    kinds = [(beta, place) for beta in BETAS for place in x]
    means = np.array([*(truth(np.array(place)) for _, place in kinds), truth(np.array(CHOSEN))])
    deviations = np.full(len(means), NOISE_SD)
    if cell.noise == "unequal":
        deviations[:-1] *= np.where([place > math.log2(20) for _, place in kinds], 4.0, 1.0)
    shape = (len(means), cell.num_seeds)
    points = BASE + means[:, None] + SEED_SD * rng.normal(size=shape[1])
    points = points + deviations[:, None] * rng.normal(size=shape)
    normal = math.sqrt(SHARED_BY_ALL) * rng.normal(size=cell.num_images)
    own = math.sqrt(SHARED_BY_SEEDS - SHARED_BY_ALL)
    normal = normal + own * rng.normal(size=(shape[0], 1, cell.num_images))
    normal = normal + math.sqrt(1 - SHARED_BY_SEEDS) * rng.standard_normal(
        (*shape, cell.num_images), dtype=np.float32
    )
    right = normal < ndtri(np.clip(points, 0.1, 99.9) / 100)[..., None]
    lost = np.zeros(shape, bool)
    if cell.noise == "diverging":
        chance = np.array([0.15 * max(place - CHOSEN, 0) for _, place in kinds])
        lost[:-1] = rng.random((len(kinds), shape[1])) < chance[:, None]
    return _study(cell, kinds, right, lost)


def _study(
    cell: Cell, kinds: Sequence[tuple[int, float]], right: np.ndarray, lost: np.ndarray
) -> Study:
    rows, outcomes = [], {}
    for place, seed in product(range(len(right)), range(cell.num_seeds)):
        beta, curvature = (None, math.inf)
        family, alpha = "relu", None
        if place < len(kinds):
            beta, curvature = kinds[place][0], 2 ** kinds[place][1]
            family, alpha = f"rct-af:beta={beta}", FACTOR[beta] * curvature
        name, count = f"{place}-{seed}", int(right[place, seed].sum())
        is_lost = bool(lost[place, seed])
        rows.append(
            Row(
                id=name,
                activation=family,
                family=family,
                beta=beta,
                alpha=alpha,
                max_curvature=float(curvature),
                seed=seed,
                status="diverged" if is_lost else "done",
                num_test=None if is_lost else cell.num_images,
                clean_correct=None if is_lost else count,
                robust_correct=None if is_lost else count,
            )
        )
        if not is_lost:
            outcomes[name] = {"robust": right[place, seed], "clean_correct": right[place, seed]}
    train = SimpleNamespace(method="trades", model="simulated", width=1.0, epochs=None)
    config = SimpleNamespace(train=train, evaluation=SimpleNamespace(attack="pgd"))
    data = {
        "name": "simulated",
        "num_test": cell.num_images,
        "class_names": [str(digit) for digit in range(NUM_CLASSES)],
    }
    results = Results(cast(Any, config), {}, data, tuple(rows), len(rows), ())
    study = Study(Path("simulated"), results)
    study.__dict__["outcomes"] = outcomes  # where `cached_property` keeps it
    return study


def sides(cell: Cell) -> dict[str, float]:
    """By claim: above 0 if it is true, below if its opposite is, 0 if a verdict is wrong anyway."""
    x, truth = np.log2(GRIDS[cell.grid]), TRUTHS[cell.truth]
    inside = (x >= LOW - 1e-9) & (x <= HIGH + 1e-9)
    values, fine = truth(x), np.linspace(-1, math.log2(50), 4001)
    by = float(values[inside].max() - values[~inside].max())
    highest = fine[np.argmax(truth(fine))]
    is_inside = LOW - 1e-3 <= highest <= HIGH + 1e-3
    peak = 0.0 if abs(by) < 1e-9 or (by > 0) != is_inside else by
    falls = -_slope(x, values, x >= HIGH - 1e-9)
    return {
        PEAK: peak,
        RISES: _slope(x, values, x <= LOW + 1e-9),
        FALLS: falls,
        ORGANISES: 1.0 if np.ptp(values) > 1e-9 else 0.0,
        FASTEST: min(falls, 0.0),  # all betas fall alike: open, and false where they rise
        BASELINES: 0.0,
    }


def _slope(x: np.ndarray, values: np.ndarray, chosen: np.ndarray) -> float:
    if chosen.sum() < 2:
        return 0.0
    slope = float(np.polyfit(x[chosen], values[chosen], 1)[0])
    return 0.0 if abs(slope) < 1e-9 else slope


class Count(NamedTuple):
    """Findings of one claim in one cell: how many, wrong either way, and right."""

    num: int
    wrongly_supported: int
    wrongly_refuted: int
    right: int


def judge_cell(cell: Cell, repeats: int, seed: Sequence[int]) -> dict[str, Count]:
    """Draws sweeps and counts what is said of each claim, of all betas together apart."""
    gc.freeze()  # statsmodels collects garbage at every call, and all of JAX is looked through
    rng, true = np.random.default_rng(seed), sides(cell)
    counts: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(4, int))
    for _ in range(repeats):
        evidence = measure_quantity(draw_study(cell, rng), ROBUST)
        for claim in CLAIMS:
            if claim.quantity != ROBUST:
                continue
            side = true[claim.name]
            for finding in judge_claim(claim, [evidence]):
                yes, no = finding.verdict == "supported", finding.verdict == "not supported"
                right = (yes and side > 0) or (no and side < 0)
                is_joint = finding.subject.startswith("all β together")
                name = claim.name + (JOINT if is_joint else "")
                counts[name] += [1, yes and side <= 0, no and side >= 0, right]
    return {name: Count(*map(int, count)) for name, count in counts.items()}


def cells(config: Config) -> list[Cell]:
    """Every kind of sweep that is asked for."""
    sizes = [SIZES[place] for place in config.sizes]
    return [
        Cell(truth, grid, seeds, images, noise)
        for truth, grid, (seeds, images), noise in product(
            config.truths, config.grids, sizes, config.noises
        )
    ]


Found = dict[Cell, dict[str, Count]]


def total(found: Found, name: str) -> Count:
    """One claim's counts over cells."""
    own = [counts[name] for counts in found.values() if name in counts]
    return Count(*(sum(count[place] for count in own) for place in range(4)))


def percent(part: int, whole: int) -> str:
    """With its Monte Carlo error, that of one in all where there is none."""
    p = part / whole
    return f"{100 * p:.2f} ± {100 * math.sqrt(max(p, 1 / whole) * (1 - p) / whole):.2f}"


def error_table(found: Found) -> Table:
    """By claim: false verdicts on each side, over all cells and in the worst kind of sweep."""
    table = Table("claim", "findings", "wrongly supported %", "refuted %", "worst side %", "where")
    for name in dict.fromkeys(name for counts in found.values() for name in counts):
        all_of_it, rates = total(found, name), {}
        kinds = {(c.truth, c.noise) for c in found}
        for kind in kinds:
            own = {c: n for c, n in found.items() if (c.truth, c.noise) == kind}
            count = total(own, name)
            if count.num:
                rates[kind] = (max(count[1:3]), count.num)
        worst = max(sorted(rates), key=lambda kind: rates[kind][0] / rates[kind][1])
        wrong = (percent(all_of_it[side], all_of_it.num) for side in (1, 2))
        where = ", ".join(map(str, worst))
        table.add_row(name, f"{all_of_it.num:,}", *wrong, percent(*rates[worst]), where)
    return table


def power_table(found: Found, name: str) -> Table:
    """One claim where noise is equal: by how much it is true, and how often the verdict says so."""
    sizes = sorted({(cell.num_seeds, cell.num_images) for cell in found})
    columns = [f"{seeds} x {images}" for seeds, images in sizes]
    table = Table("truth", "grid", "true by", "wrong %", *columns, title=name)
    for truth, grid in dict.fromkeys((cell.truth, cell.grid) for cell in found):
        own = {
            c: n for c, n in found.items() if (c.truth, c.grid, c.noise) == (truth, grid, "equal")
        }
        if not own:
            continue
        side = sides(next(iter(own)))[name.removesuffix(JOINT)]
        count = total(own, name)
        cells = []
        for size in sizes:
            there = total(
                {c: n for c, n in own.items() if (c.num_seeds, c.num_images) == size}, name
            )
            cells.append(f"{100 * there.right / there.num:.0f}" if there.num else "")
        wrong = f"{100 * (count.wrongly_supported + count.wrongly_refuted) / count.num:.1f}"
        table.add_row(truth, grid, f"{side:.1f}", wrong, *cells)
    return table


def record(found: Found) -> dict[str, Any]:
    """What the tables are made of, a line for each kind of sweep."""
    errors: dict[str, dict[str, str]] = defaultdict(dict)
    power: dict[str, dict[str, str]] = defaultdict(dict)
    for name in dict.fromkeys(name for counts in found.values() for name in counts):
        for truth, noise in dict.fromkeys((cell.truth, cell.noise) for cell in found):
            own = {c: n for c, n in found.items() if (c.truth, c.noise) == (truth, noise)}
            num, supported, refuted, _ = total(own, name)
            words = f"{supported} wrongly supported, {refuted} wrongly refuted of {num}"
            errors[name][f"{truth}; {noise}"] = words
        for cell, counts in found.items():
            if cell.noise == "equal" and name in counts:
                kind = f"{cell.truth}; {cell.grid}; {cell.num_seeds} x {cell.num_images}"
                power[name][kind] = f"{counts[name].right} right of {counts[name].num}"
    return {"errors": errors, "power where noise is equal": power}


def main(config: Config) -> None:
    """Draw, judge, print, save."""
    console = Console(width=150)
    result = start(repeats=config.repeats, seed=config.seed)
    asked, began = cells(config), time.monotonic()
    seeds = [(config.seed, index) for index in range(len(asked))]
    with ProcessPoolExecutor(config.workers, mp_context=get_context("spawn")) as pool:
        counts = pool.map(judge_cell, asked, [config.repeats] * len(asked), seeds, chunksize=4)
        found = dict(zip(asked, counts, strict=True))
    console.print(error_table(found))
    for name in (PEAK, PEAK + JOINT, RISES, FALLS):
        console.print(power_table(found, name))
    result["seconds"] = round(time.monotonic() - began)
    if config.save:
        result |= record(found)
        save("claims_simulation", result, console)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
