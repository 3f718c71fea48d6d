"""`python -m rctaf_jax` is `rctaf`."""

import sys

from rctaf_jax.cli import main

sys.exit(main())
