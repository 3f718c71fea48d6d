"""Types that several rooms speak of by one name; shapes are said, not checked."""

from collections.abc import Callable

from jaxtyping import Array, Float, Int

Pixels = Float[Array, "batch height width channels"]
"""Images as a network takes them, in [0, 1]."""
Classes = Int[Array, " batch"]
"""Labels, one for each example."""
Logits = Float[Array, "batch classes"]
Predict = Callable[[Pixels], Logits]
"""A network with its variables."""
Pointwise = Callable[[Array], Array]
"""A function of each entry, such as an activation."""
