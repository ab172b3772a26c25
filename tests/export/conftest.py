"""A network with random weights and real photographs."""

from __future__ import annotations

import cv2
import jax
import numpy as np
import pytest
from skimage import data

from fer_jax import labels as label_sets
from fer_jax.models import mini_xception

SHAPE = (48, 48, 1)


def randomized(model, seed=0, spread=20.0):
  """Variables with random batch-norm statistics and well-spread logits."""
  rng = np.random.default_rng(seed)
  variables = jax.jit(model.init)(
    jax.random.key(seed), np.zeros((1, *model.input_shape), np.float32)
  )

  def leaf(path, value):
    value = np.asarray(value)
    match path[-1].key:
      case 'mean':
        return rng.normal(0, 0.3, value.shape).astype(np.float32)
      case 'var' | 'scale':
        return rng.uniform(0.5, 2, value.shape).astype(np.float32)
      case _:
        return value

  variables = jax.tree_util.tree_map_with_path(leaf, variables)
  kernel = variables['params']['classes']['kernel']
  variables['params']['classes']['kernel'] = kernel * np.float32(spread)
  return variables


@pytest.fixture(scope='session')
def faces():
  """Photographs, half of them faces, grey, uint8 [200, 48, 48, 1]."""
  images = np.round(255 * data.lfw_subset()).astype(np.uint8)
  return np.stack([cv2.resize(im, (48, 48)) for im in images])[..., None]


@pytest.fixture(scope='session')
def network():
  model = mini_xception.MiniXception(input_shape=SHAPE)
  return model, randomized(model)


@pytest.fixture(scope='session')
def metadata():
  return {
    'model': 'mini_xception',
    'overrides': {'input_shape': [48, 48, 1]},
    'label_set': 'fer2013',
    'labels': list(label_sets.get('fer2013').names),
    'input_shape': list(SHAPE),
    'kind': 'classifier',
    'data': 'fer2013',
    'temperature': None,
  }
