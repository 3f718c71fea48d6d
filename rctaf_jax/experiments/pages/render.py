"""Fills the templates beside this module; every text in them is escaped."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from rctaf_jax.experiments.results import phrasing
from rctaf_jax.experiments.show import wording
from rctaf_jax.experiments.show.plotting import inline_panels


def render(template: str, **values: Any) -> str:
    """A page; a value that the template needs and does not get is an error."""
    environment = Environment(
        loader=PackageLoader(__package__, "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    environment.globals |= {"words": wording, "estimates": phrasing}
    return environment.get_template(template).render(**values)


def panels_of(figure: Figure, name: str, description: str) -> list[Markup]:
    """The panels of a figure as elements of a page; see `inline_panels`."""
    panels = inline_panels(figure, name=name, description=description)
    return [Markup(panel) for panel in panels]
