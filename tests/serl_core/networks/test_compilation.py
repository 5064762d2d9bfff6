import os
import subprocess
import sys

PROGRAM = """
import jax, jax.numpy as jnp
from serl_core.networks.compilation import enable_compilation_cache
print(enable_compilation_cache())
jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((8, 8))).block_until_ready()
"""


def test_programs_are_kept_in_the_users_cache_folder(tmp_path):
    environment = {key: value for key, value in os.environ.items() if key != "JAX_COMPILATION_CACHE_DIR"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**environment, "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    folder = tmp_path / "serl" / "jax"
    assert done.stdout.strip() == str(folder)
    assert any(folder.iterdir())
