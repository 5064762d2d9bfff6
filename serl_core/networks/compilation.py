"""Where compiled programs are kept between starts: without it every start compiles for seconds."""

import os
from pathlib import Path

import jax


def cache_folder() -> Path:
    """Return the user's folder for what can be made again: `serl` in XDG_CACHE_HOME, or in `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "serl"


def enable_compilation_cache() -> Path:
    """Keep compiled programs in the user's cache folder, or where JAX_COMPILATION_CACHE_DIR says; return it."""
    folder = Path(os.environ.get("JAX_COMPILATION_CACHE_DIR") or cache_folder() / "jax")
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "jax_compilation_cache_dir": str(folder),
        "jax_persistent_cache_min_compile_time_secs": 0.0,  # a start runs dozens of small programs
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    for name, value in settings.items():
        jax.config.update(name, value)  # type: ignore[no-untyped-call]
    return folder
