"""What the tests of the networks share."""

import numpy as np
import pytest
from flax import traverse_util

from fer_jax import models


@pytest.fixture(scope='session')
def draw():
  """A function that draws variables of a network with numpy.

  Unlike those of `models.init` no two scales, biases or statistics are alike,
  so that nothing hides behind ones and zeros; and nothing is compiled.
  """

  def draw(model, seed=0):
    rng = np.random.default_rng(seed)
    flat = {}
    for path, leaf in traverse_util.flatten_dict(models.shapes(model)).items():
      if path[-1] in ('scale', 'var'):
        value = rng.uniform(0.5, 1.5, leaf.shape)
      elif path[-1] == 'kernel':
        fan_in = np.prod(leaf.shape[:-1])
        value = rng.normal(0, np.sqrt(2 / fan_in), leaf.shape)
      else:
        value = rng.normal(0, 0.2, leaf.shape)
      flat[path] = value.astype(np.float32)
    return traverse_util.unflatten_dict(flat)

  return draw
