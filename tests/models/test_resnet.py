import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rctaf_jax.models import create
from rctaf_jax.models.convolution import native

