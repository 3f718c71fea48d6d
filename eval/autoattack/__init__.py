"""AutoAttack: its attacks, the ensemble of them, and what a folder keeps of both.

`attack` says what an attack is; `apgd`, `fab` and `square` are attacks; `pool` runs one of them on
many images, `ensemble` several in turn, and `store` keeps what is done.
"""

from .interface import autoattack, make_autoattack
from .result import AutoAttackResult

__all__ = ["AutoAttackResult", "autoattack", "make_autoattack"]
