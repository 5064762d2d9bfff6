import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from serl_core.networks.heads import MLP, NORM_EPSILON, CriticEnsemble, LayerNorm, normalize


def test_layer_norm_is_that_of_flax():
    x = 3.0 + 2.0 * jax.random.normal(jax.random.key(0), (5, 4, 32))
    params = LayerNorm().init(jax.random.key(0), x)
    params = jax.tree.map(lambda leaf: leaf + jax.random.normal(jax.random.key(1), leaf.shape), params)
    np.testing.assert_allclose(LayerNorm().apply(params, x), nn.LayerNorm().apply(params, x), rtol=2e-5, atol=2e-5)


def test_layer_norm_of_equal_numbers_is_finite():
    x = jnp.full((3, 16), 1e3)
    params = LayerNorm().init(jax.random.key(0), x)
    assert jnp.isfinite(LayerNorm().apply(params, x)).all()


def test_ensemble_is_as_many_single_networks():
    ensemble = CriticEnsemble(3, (16, 8))
    encoded = jnp.ones((7, 4))
    action = jax.random.normal(jax.random.key(0), (7, 2))
    params = ensemble.init(jax.random.key(1), encoded, action)["params"]
    together = ensemble.apply({"params": params}, encoded, action)
    assert together.shape == (3, 7)
    for member in range(3):
        own = jax.tree.map(lambda leaf, i=member: leaf[i], params["mlp"])
        alone = MLP((16, 8), 1).apply({"params": own}, jnp.concatenate([encoded, action], -1))
        np.testing.assert_allclose(together[member], alone[:, 0], rtol=1e-5, atol=1e-6)


def test_the_gradient_of_normalize_is_that_of_its_formula():
    def formula(x):
        centred = x - x.mean(-1, keepdims=True)
        return centred / jnp.sqrt(jnp.square(centred).mean(-1, keepdims=True) + NORM_EPSILON)

    x, direction = jax.random.normal(jax.random.key(0), (2, 3, 5, 16))
    gradients = [jax.grad(lambda x, f=f: (f(x) * direction).sum())(x) for f in (normalize, formula)]
    np.testing.assert_allclose(*gradients, rtol=1e-4, atol=1e-5)
