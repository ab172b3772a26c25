"""EmotionNet Nano: wiring, folding, refusals."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from fer_jax import models
from fer_jax.models import emotionnet_nano

# What is summed before each layer, written down from the paper's figure and not
# read from the module.
SOURCES = {
  'f1': {'image'},
  'f2': {'f1'},
  'f3': {'f2'},
  'f4': {'f1', 'f3'},
  'f5': {'f4'},
  'f6': {'f1', 'f3', 'f5'},
  'f7': {'f6'},
  'f8': {'f1', 'f5', 'f7'},
  'id1': {'f1', 'f3', 'f5'},
  'b1': {'f8'},
  'b2': {'b1', 'id1'},
  'b3': {'b2'},
  'b4': {'b1', 'b3'},
  'b5': {'b4'},
  'b6': {'b1', 'b3', 'b5', 'id1'},
  'id2': {'b3', 'b5', 'id1', 'f8'},
  'c1': {'b6'},
  'c2': {'c1', 'id2'},
  'c3': {'c2'},
  'c4': {'c1', 'c3', 'id2'},
  'c5': {'c4'},
  'features': {'c1', 'c3', 'c5', 'id2'},
}
SIZES = {
  'f1': (48, 11), 'f2': (48, 9), 'f3': (48, 11), 'f4': (48, 8), 'f5': (48, 11),
  'f6': (48, 7), 'f7': (48, 11), 'f8': (24, 27), 'id1': (24, 27),
  'b1': (24, 27), 'b2': (24, 19), 'b3': (24, 27), 'b4': (24, 26),
  'b5': (24, 27), 'b6': (12, 36), 'id2': (12, 64), 'c1': (12, 64),
  'c2': (12, 39), 'c3': (12, 64), 'c4': (12, 24), 'c5': (12, 64),
}  # fmt: skip
LAYERS = [name for name in SOURCES if name != 'features']
# Every tensor has a value of its own, so that a sum tells what is in it.
VALUES = {name: 2**i for i, name in enumerate(['image', *LAYERS])}


@pytest.fixture(scope='module')
def deployed():
  model = models.create(
    'emotionnet_nano_b', use_norm=False, input_shape=(8, 8, 1)
  )
  apply = jax.jit(lambda v, x: model.apply(v, x, mutable=['intermediates'])[1])
  return models.shapes(model)['params'], apply


def _constant_network(shapes):
  """Layers that give their value in VALUES everywhere, whatever they read."""
  params = {}
  for name, leaves in shapes.items():
    params[name] = {
      leaf: np.zeros(shape.shape, np.float32) for leaf, shape in leaves.items()
    }
    if name in VALUES:
      params[name]['bias'][:] = VALUES[name]
  return params


def _decode(total):
  return {name for name, value in VALUES.items() if int(total) & value}


@pytest.mark.parametrize('name', SOURCES)
def test_each_layer_reads_the_sum_of_its_sources(name, deployed):
  shapes, apply = deployed
  params = _constant_network(shapes)
  if name != 'features':
    # Hand on the first channel as it is.
    size = params[name]['kernel'].shape[0]
    params[name]['kernel'][size // 2, size // 2, 0, 0] = 1
    params[name]['bias'][:] = 0
  # The network maps [0, 1] to [-1, 1]; an image of ones is VALUES['image'].
  image = jnp.ones((1, 8, 8, 1))
  assert VALUES['image'] == 1
  sown = apply({'params': params}, image)['intermediates']
  read = sown['features' if name == 'features' else f'{name}_out'][0]
  read = np.asarray(read)[..., 0]
  assert (read == read.flat[0]).all()
  assert _decode(read.flat[0]) == SOURCES[name]


@pytest.mark.parametrize('negative', ['f1', 'b6', 'c5', 'id1', 'id2'])
def test_only_shortcuts_are_linear(negative, deployed):
  shapes, apply = deployed
  params = _constant_network(shapes)
  params[negative]['bias'][:] = -1
  out = apply({'params': params}, jnp.ones((1, 8, 8, 1)))['intermediates']
  expected = -1 if negative.startswith('id') else 0
  assert (np.asarray(out[f'{negative}_out'][0]) == expected).all()


def test_sizes_at_full_scale():
  model = models.create('emotionnet_nano_b')
  _, state = jax.eval_shape(
    lambda v, x: model.apply(v, x, mutable=['intermediates']),
    models.shapes(model),
    jnp.zeros((2, 48, 48, 1)),
  )
  sown = {
    name: value[0].shape for name, value in state['intermediates'].items()
  }
  assert sown.pop('features') == (2, 64)
  assert sown == {f'{name}_out': (2, n, n, c) for name, (n, c) in SIZES.items()}


def test_folding_batch_norm_keeps_the_function(draw):
  name = 'emotionnet_nano_b'
  trained = models.create(name, input_shape=(16, 16, 1))
  small = models.create(name, input_shape=(16, 16, 1), use_norm=False)
  variables = draw(trained)
  folded = emotionnet_nano.fold_batch_norm(variables)
  assert jax.tree.map(jnp.shape, folded) == jax.tree.map(
    lambda leaf: leaf.shape, models.shapes(small)
  )
  image = np.random.default_rng(0).uniform(size=(4, 16, 16, 1))
  image = image.astype(np.float32)
  before, seen = jax.jit(
    lambda v, x: trained.apply(v, x, mutable=['intermediates'])
  )(variables, image)
  after, also = jax.jit(
    lambda v, x: small.apply(v, x, mutable=['intermediates'])
  )(folded, image)
  assert np.std(before) > 0.1
  for layer, (value,) in seen['intermediates'].items():
    scale = float(jnp.abs(value).max())
    np.testing.assert_allclose(
      also['intermediates'][layer][0], value, rtol=0, atol=3e-6 * scale
    )
  np.testing.assert_allclose(
    after, before, rtol=0, atol=3e-6 * float(jnp.abs(before).max())
  )


def test_folding_twice_is_refused(draw):
  model = models.create('emotionnet_nano_b', use_norm=False)
  with pytest.raises(ValueError, match='nothing to fold'):
    emotionnet_nano.fold_batch_norm(draw(model))


@pytest.mark.parametrize(
  ('overrides', 'words'),
  [
    ({'stem': (11, 9, 11)}, 'stem needs 8 widths, got 3'),
    ({'stage1': (27, 19, 28, 26, 27, 36)}, 'b3=28'),
    ({'stage2': (64, 39, 64, 24, 60)}, 'c5=60'),
    ({'stem': (11, 9, 11, 8, 11, 7, 11, 26)}, 'f8=26'),
  ],
)
def test_widths_that_cannot_be_summed_are_refused(overrides, words):
  model = models.create('emotionnet_nano_b', **overrides)
  with pytest.raises(ValueError, match=words):
    models.shapes(model)
