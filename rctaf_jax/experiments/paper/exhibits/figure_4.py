"""Figure 4: a narrow and a wide network, TRADES, beta 1."""

from .comparison import comparison

EXPERIMENT = comparison(
    "figure-4",
    "Figure 4: two architectures",
    "ResNet-18 and WRN-28-10, trained by TRADES, both peak between 4 and 10; the wider network is "
    "more robust.",
    {"trades": "narrower", "trades-wide": "wider"},
)
