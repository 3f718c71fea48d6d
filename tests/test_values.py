import pytest

from rctaf_jax.errors import InputError
from rctaf_jax.values import check_positive, check_seed, lookup, parse_number


@pytest.mark.parametrize(
    ("text", "value"), [("8/255", 8 / 255), ("0.5", 0.5), ("1e-3", 1e-3), ("-2", -2.0)]
)
def test_numbers_and_fractions(text, value):
    assert parse_number(text) == value


@pytest.mark.parametrize("text", ["eight", "8/0", "1/2/3", "", "8/"])
def test_what_is_no_number_is_refused(text):
    with pytest.raises(InputError, match="is not a number"):
        parse_number(text)


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf")])
def test_check_positive(value):
    check_positive(batch_size=3, step_size=None)
    with pytest.raises(InputError, match="batch-size must be a positive number"):
        check_positive(batch_size=value)


@pytest.mark.parametrize("seed", [2**63, -(2**63) - 1])
def test_check_seed(seed):
    check_seed(2**63 - 1)
    with pytest.raises(InputError, match=f"at most 64 bits.*received {seed}"):
        check_seed(seed)


@pytest.mark.parametrize("name", ["l2", "", None, ["L2"]])
def test_lookup_names_what_was_received_and_what_there_is(name):
    table = {"Linf": 1, "L2": 2}
    assert lookup("norm", "L2", table) == 2
    with pytest.raises(InputError, match=r"^unknown norm .*: choose one of Linf, L2\.$"):
        lookup("norm", name, table)
