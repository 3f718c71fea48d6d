"""HTML pages from the templates beside this module; every text in them is escaped."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from rctaf_jax.experiments.show import wording


def render(template: str, **values: Any) -> str:
    """A page; a value that the template needs and does not get is an error."""
    environment = Environment(
        loader=PackageLoader(__package__, "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    environment.globals["words"] = wording
    return environment.get_template(template).render(**values)
