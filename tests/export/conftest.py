"""A network with random weights and real photographs."""

from __future__ import annotations

import cv2
import jax
import numpy as np
import pytest
from skimage import data

from fer_jax import labels as label_sets
from fer_jax.evaluation import metrics
from fer_jax.evaluation import predict
from fer_jax.export import tflite
from fer_jax.models import mini_xception

SHAPE = (48, 48, 1)


def randomized(model, images, seed=0):
  """Variables whose batch norm has statistics of images, scales and biases.

  Statistics of nothing would leave a network that answers the same to every
  image, with large terms cancelling: no network to measure rounding on.
  """
  rng = np.random.default_rng(seed)
  image = np.asarray(images, np.float32) / 255
  variables = jax.jit(model.init)(jax.random.key(seed), image[:1])
  _, updated = jax.jit(
    lambda v, x: model.apply(v, x, train=True, mutable=['batch_stats'])
  )(variables, image)

  def leaf(path, old, new):
    old, new = np.asarray(old), np.asarray(new)
    name, shape = path[-1].key, old.shape
    if name in ('mean', 'var'):
      new = (new - 0.99 * old) / 0.01  # undo the moving average
      factor = rng.uniform(0.9, 1.1, shape)
      return np.float32(np.maximum(new, 1e-3) * factor if name == 'var' else new)
    if name == 'scale':
      return rng.uniform(0.7, 1.4, shape).astype(np.float32)
    if name == 'bias':
      return rng.normal(0, 0.2, shape).astype(np.float32)
    return old

  return jax.tree_util.tree_map_with_path(
    leaf, variables, {**variables, **updated}
  )


@pytest.fixture(scope='session')
def faces():
  """Photographs, half of them faces, grey, uint8 [200, 48, 48, 1]."""
  images = np.round(255 * data.lfw_subset()).astype(np.uint8)
  return np.stack([cv2.resize(im, (48, 48)) for im in images])[..., None]


@pytest.fixture(scope='session')
def network(faces):
  """mini_xception whose answers to the photographs are of every kind."""
  model = mini_xception.MiniXception(input_shape=SHAPE)
  variables = randomized(model, faces)
  logits = predict.jax_logits(model, variables, faces)
  spread = np.float32(1.5) / logits.std(axis=0).mean()
  head = variables['params']['classes']
  head['kernel'] = head['kernel'] * spread
  head['bias'] = (head['bias'] - logits.mean(axis=0)) * spread
  return model, variables


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


@pytest.fixture(scope='session')
def exported(network, faces):
  """The files of the network, by precision."""
  model, variables = network
  return {
    precision: tflite.to_tflite(
      model,
      variables,
      SHAPE,
      precision=precision,
      representative=faces[::4] if precision == 'int8' else None,
    )
    for precision in tflite.PRECISIONS
  }


@pytest.fixture(scope='session')
def reference(network, faces):
  """Probabilities of the network in JAX, float64 [200, 7]."""
  return metrics.softmax(predict.jax_logits(*network, faces))
