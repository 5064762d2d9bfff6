"""What every test runs under: strict rank promotion, a compilation cache that speeds up repeats, and no stop-watch."""

import os
from pathlib import Path

from hypothesis import settings

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "serl" / "jax"

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")

settings.register_profile("serl", deadline=None)  # the machine may be busy
settings.load_profile("serl")
