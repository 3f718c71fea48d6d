"""How a sweep lies to the paper's experiments. What it found is the verdicts' to say."""

import math

from rctaf_jax.experiments.results.rows import Results
from rctaf_jax.experiments.show.wording import CURVATURE, PAPER_RANGE, count, listing, number

_PAPER_MODELS = ("resnet18", "wrn-28-10")
_PAPER_METHODS = ("trades", "dajat", "dkl")
_PAPER_DATA = ("cifar10", "cifar100")
_PAPER_NUM_TRAIN = 50_000


def paper_sentences(results: Results) -> list[str]:
    """The paper's claim, and what keeps this sweep from settling it."""
    low, high = PAPER_RANGE
    claim = (
        f"The paper reports the best robust accuracy for {CURVATURE} from {number(low)} to "
        f"{number(high)}."
    )
    if all(row.beta is None for row in results.rows):
        return [claim, "This sweep measured no RCT-AF member, so it has nothing to set beside it."]
    different = differences(results)
    if not different:
        return [claim]
    caution = (
        f"This sweep differs from the paper's experiments in {listing(different)}, so "
        "it neither confirms nor refutes the paper."
    )
    return [claim, caution]


def differences(results: Results) -> list[str]:
    """What sets this sweep apart from the paper's experiments."""
    train, data = results.config.train, results.data
    base_name = str(data["name"]).partition("[")[0]
    found = []
    if base_name not in _PAPER_DATA:
        found.append(f"the data ({data['name']})")
    elif data["num_train"] < _PAPER_NUM_TRAIN:
        found.append(f"the amount of data ({count(data['num_train'], 'training image')})")
    if train.model not in _PAPER_MODELS or train.width != 1:
        found.append(f"the network ({train.model}, width {number(train.width)})")
    if train.method not in _PAPER_METHODS:
        found.append(f"the training method ({train.method})")
    if train.norm != "Linf" or not math.isclose(train.epsilon, 8 / 255, rel_tol=1e-3):
        found.append(f"the perturbations ({train.norm}, ε = {number(train.epsilon)})")
    if not uses_autoattack(results):
        found.append("the attack (PGD instead of AutoAttack)")
    return found


def uses_autoattack(results: Results) -> bool:
    """Whether robust accuracy was measured by AutoAttack."""
    return results.config.evaluation.attack == "autoattack"
