"""A network with random weights and real photographs."""

from __future__ import annotations

import cv2
import jax
import numpy as np
import pytest
from skimage import data

from fer_jax import labels as label_sets
from fer_jax import models
from fer_jax.evaluation import metrics
from fer_jax.evaluation import predict
from fer_jax.export import tflite
from fer_jax.models import mini_xception

SHAPE = (48, 48, 1)


# int8 of a network with random weights decides alike less often than that of a
# trained one, which parity.LIMITS is for: near-ties are everywhere.
RANDOM_AGREEMENT = 0.8


def drawn(model, seed=0):
  """Random variables, without the minutes that compiling `init` can take."""
  rng = np.random.default_rng(seed)

  def leaf(path, shape):
    name, shape = path[-1].key, shape.shape
    match name:
      case 'kernel':
        scale = np.sqrt(2 / np.prod(shape[:-1]))
        value = rng.normal(0, scale, shape)
      case 'mean' | 'bias':
        value = rng.normal(0, 0.2, shape)
      case _:  # var, scale
        value = rng.uniform(0.7, 1.4, shape)
    return value.astype(np.float32)

  return jax.tree_util.tree_map_with_path(leaf, models.shapes(model))


def randomized(model, images, seed=0):
  """Random variables whose batch-norm statistics belong to the images.

  With statistics of nothing a network answers the same to every image, from
  large terms that cancel: no network to measure rounding on.
  """
  rng = np.random.default_rng(seed)
  variables = drawn(model, seed)
  image = np.asarray(images, np.float32) / 255
  _, updated = jax.jit(
    lambda v, x: model.apply(v, x, train=True, mutable=['batch_stats'])
  )(variables, image)

  def leaf(path, old, new):
    new = (np.asarray(new) - 0.99 * old) / 0.01  # undo the moving average
    if path[-1].key == 'var':
      new = np.maximum(new, 1e-3) * rng.uniform(0.9, 1.1, new.shape)
    return new.astype(np.float32)

  stats = jax.tree_util.tree_map_with_path(
    leaf, variables['batch_stats'], updated['batch_stats']
  )
  return {'params': variables['params'], 'batch_stats': stats}


@pytest.fixture(scope='session')
def random_variables():
  """`drawn`, for other networks."""
  return drawn


@pytest.fixture(scope='session')
def random_agreement():
  return RANDOM_AGREEMENT


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
