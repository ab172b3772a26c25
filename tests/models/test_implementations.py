"""The networks compute the same under both formulations of the operations."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from fer_jax import models
from fer_jax import ops


def _loss_and_gradient(implementation, model, variables, image, target):
  def loss(params):
    logits, updated = model.apply(
      {**variables, 'params': params},
      image,
      train=True,
      mutable=['batch_stats'],
    )
    return jnp.mean((logits - target) ** 2), (logits, updated)

  with ops.implementation(implementation):
    # Functions of its own each time: JAX would reuse the other one's trace.
    (value, (logits, updated)), grads = jax.jit(
      jax.value_and_grad(loss, has_aux=True)
    )(variables['params'])
    tested = jax.jit(lambda v, x: model.apply(v, x))(variables, image)
  return {
    'loss': value,
    'logits': logits,
    'batch_stats': updated,
    'test_logits': tested,
    'gradient': grads,
  }


@pytest.mark.parametrize(
  ('name', 'size'), [('mini_xception', 32), ('emotionnet_nano_b', 24)]
)
def test_forward_and_gradient_agree(name, size, draw):
  model = models.create(name, input_shape=(size, size, 1))
  variables = draw(model)
  rng = np.random.default_rng(0)
  image = rng.uniform(size=(4, size, size, 1)).astype(np.float32)
  target = rng.normal(size=(4, 7)).astype(np.float32)
  lax, cpu = (
    _loss_and_gradient(way, model, variables, image, target)
    for way in ('lax', 'cpu')
  )
  # Float32 sums in another order: 2e-5 of the largest number of each tensor,
  # which batch norm's division amplifies on the way back.
  norm = max(float(jnp.abs(g).max()) for g in jax.tree.leaves(lax['gradient']))
  assert norm > 1e-3

  def close(path, a, b):
    scale = float(jnp.abs(a).max())
    in_gradient = path[0].key == 'gradient'
    tolerance = 2e-5 * (max(scale, norm) if in_gradient else max(scale, 1e-2))
    np.testing.assert_allclose(
      b, a, rtol=0, atol=tolerance, err_msg=jax.tree_util.keystr(path)
    )

  jax.tree_util.tree_map_with_path(close, lax, cpu)
