"""What holds for every network: shapes, intermediates, dtypes, gradients."""

import jax
import numpy as np
import pytest
from flax import traverse_util
from jax import numpy as jnp

from fer_jax import models

NAMES = models.names()
CLASSIFIERS = [
  name
  for name in NAMES
  if not name.startswith('mtcnn') and name != 'grid_detector'
]

# What each layer or block gives (sown as `<name>_out`), at the network's own input size, as (side, channels), or
# the length of a vector. Nano has its table in test_emotionnet_nano.py.
SOWN = {
  'residual_prototype': {
    'stem': (48, 16),
    **{f'stage1_block{j}': (48, 16) for j in (1, 2, 3)},
    **{f'stage2_block{j}': (24, 32) for j in (1, 2, 3)},
    **{f'stage3_block{j}': (12, 64) for j in (1, 2, 3)},
    'features': 64,
  },
  'mini_xception': {
    'stem': (60, 8),
    'module1': (30, 16),
    'module2': (15, 32),
    'module3': (8, 64),
    'module4': (4, 128),
    'class_maps': (4, 7),
  },
  'iot_classifier': {
    'stem1': (32, 8),
    'stem2': (16, 8),
    'module1': (8, 16),
    'module2': (4, 32),
    'module3': (2, 64),
    'features': 64,
  },
  'grid_detector': {
    'stage1': (144, 8),
    'stage2': (72, 16),
    'stage3': (36, 32),
    'stage4': (18, 64),
    'stage5': (9, 128),
    **{f'head{i}': (9, 192) for i in (1, 2, 3, 4)},
  },
  'mtcnn_pnet': {'conv1': (10, 10), 'conv2': (3, 16), 'conv3': (1, 32)},
  'mtcnn_rnet': {
    'conv1': (22, 28),
    'conv2': (9, 48),
    'conv3': (3, 64),
    'features': 128,
  },
  'mtcnn_onet': {
    'conv1': (46, 32),
    'conv2': (21, 64),
    'conv3': (8, 64),
    'conv4': (3, 128),
    'features': 256,
  },
  'resnet50': {
    'conv1': (112, 64),
    **{f'conv2_block{j}': (56, 256) for j in range(1, 4)},
    **{f'conv3_block{j}': (28, 512) for j in range(1, 5)},
    **{f'conv4_block{j}': (14, 1024) for j in range(1, 7)},
    **{f'conv5_block{j}': (7, 2048) for j in range(1, 4)},
    'features': 2048,
  },
  'mobilenet_v1': {
    'stem': (112, 32),
    'block1': (112, 64),
    'block2': (56, 128),
    'block3': (56, 128),
    'block4': (28, 256),
    'block5': (28, 256),
    **{f'block{i}': (14, 512) for i in range(6, 12)},
    'block12': (7, 1024),
    'block13': (7, 1024),
    'features': 1024,
  },
  'efficientnet_b0': {
    'stem': (112, 32),
    'stage1_block1': (112, 16),
    **{f'stage2_block{j}': (56, 24) for j in (1, 2)},
    **{f'stage3_block{j}': (28, 40) for j in (1, 2)},
    **{f'stage4_block{j}': (14, 80) for j in (1, 2, 3)},
    **{f'stage5_block{j}': (14, 112) for j in (1, 2, 3)},
    **{f'stage6_block{j}': (7, 192) for j in (1, 2, 3, 4)},
    'stage7_block1': (7, 320),
    'top': (7, 1280),
    'features': 1280,
  },
  'vgg': {
    'stage1': (32, 64),
    'stage2': (16, 128),
    'stage3': (8, 256),
    'stage4': (4, 256),
    'dense1': 1024,
    'dense2': 1024,
  },
  'plain_cnn': {
    'stage1': (24, 16),
    'stage2': (12, 32),
    'stage3': (6, 64),
    'stage4': (3, 128),
    'last': (3, 256),
    'class_maps': (3, 7),
  },
  'dense_lite': {
    'stem': (24, 64),
    'block1': (24, 96),
    'block2': (12, 80),
    'block3': (6, 72),
    'block4': (3, 68),
    'features': 68,
  },
  'micro_expnet': {'conv1': (21, 16), 'conv2': (11, 32), 'features': 16},
}

# Small enough for a gradient in a second or two on one core.
TRAINED = {
  'emotionnet_nano_b': (16, 16, 1),
  'residual_prototype': (16, 16, 1),
  'mini_xception': (24, 24, 1),
  'iot_classifier': (32, 32, 1),
  'grid_detector': (64, 64, 3),
  'mtcnn_pnet': (12, 12, 3),
  'mtcnn_rnet': (24, 24, 3),
  'mtcnn_onet': (48, 48, 3),
  'vgg': (16, 16, 1),
  'plain_cnn': (16, 16, 1),
  'dense_lite': (32, 32, 3),
  'micro_expnet': (24, 24, 1),
}


def _apply(name, batch=2, mutable=('intermediates',), **overrides):
  """Shapes and dtypes that `apply` gives, and those of what it sows."""
  model = models.create(name, **overrides)
  return jax.eval_shape(
    lambda v, x: model.apply(v, x, mutable=list(mutable)),
    models.shapes(model),
    jnp.zeros((batch, *model.input_shape)),
  )


def test_tables_cover_the_registry():
  assert set(SOWN) | {'emotionnet_nano_a', 'emotionnet_nano_b'} == set(NAMES)
  # Left out are the three large ones, which Keras parity covers, and the twin
  # of Nano-B.
  assert set(NAMES) - set(TRAINED) == {
    'emotionnet_nano_a',
    'resnet50',
    'mobilenet_v1',
    'efficientnet_b0',
  }


@pytest.mark.parametrize('name', CLASSIFIERS)
@pytest.mark.parametrize('classes', [None, 3])
def test_classifiers_give_logits(name, classes):
  overrides = {} if classes is None else {'num_classes': classes}
  logits, _ = _apply(name, batch=5, mutable=(), **overrides)
  default = {'iot_classifier': 4, 'micro_expnet': 8}.get(name, 7)
  assert logits.shape == (5, classes or default)
  assert logits.dtype == jnp.float32
  promised = int(models.ENTRIES[name].output.split()[0])
  assert promised == default


def test_grid_detector_gives_a_raw_grid():
  grid, _ = _apply('grid_detector', batch=5)
  assert grid.shape == (5, 9, 9, 11)
  grid, _ = _apply('grid_detector', input_shape=(96, 160, 3), boxes=3)
  assert grid.shape == (2, 3, 5, 16)


@pytest.mark.parametrize('name', SOWN)
def test_intermediates(name):
  _, state = _apply(name)
  sown = {k: v[0].shape for k, v in state['intermediates'].items()}
  plain = ('features', 'class_maps')
  assert sown == {
    k if k in plain else f'{k}_out': (2, v)
    if isinstance(v, int)
    else (2, v[0], v[0], v[1])
    for k, v in SOWN[name].items()
  }


@pytest.mark.parametrize('name', NAMES)
def test_half_precision_keeps_parameters_and_outputs_in_float32(name):
  out, state = _apply(name, dtype='bfloat16')
  assert {leaf.dtype for leaf in jax.tree.leaves(out)} == {jnp.dtype('float32')}
  shapes = models.shapes(models.create(name, dtype='bfloat16'))
  assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {
    jnp.dtype('float32')
  }
  inside = {leaf.dtype for leaf in jax.tree.leaves(state)}
  assert inside == {jnp.dtype('bfloat16')}


@pytest.mark.parametrize('name', NAMES)
def test_every_sub_layer_is_named_by_hand(name):
  paths = traverse_util.flatten_dict(models.shapes(models.create(name)))
  for path in paths:
    for part in path:
      # Automatic names look like Conv_0.
      assert part == part.lower(), path


@pytest.mark.parametrize('name', TRAINED)
def test_a_step_of_training(name, draw):
  model = models.create(name, input_shape=TRAINED[name])
  rng = np.random.default_rng(0)
  image = rng.uniform(size=(4, *model.input_shape)).astype(np.float32)
  variables = draw(model)
  params = variables['params']
  stats = {k: v for k, v in variables.items() if k != 'params'}

  @jax.jit
  def step(params):
    out, updated = model.apply(
      {'params': params, **stats}, image, train=True, mutable=['batch_stats']
    )
    # Outputs towards values of their own: any head gets a gradient.
    target = jax.tree.map(
      lambda y: jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape), out
    )
    losses = jax.tree.map(lambda y, t: jnp.mean((y - t) ** 2), out, target)
    return sum(jax.tree.leaves(losses)), updated

  (loss, updated), grads = jax.jit(jax.value_and_grad(step, has_aux=True))(
    params
  )
  assert np.isfinite(loss)
  flat = traverse_util.flatten_dict(grads)
  for path, grad in flat.items():
    assert np.isfinite(grad).all(), path
    if path[-1] == 'kernel':
      assert np.abs(grad).max() > 0, path
  if stats:
    changed = jax.tree.map(
      lambda a, b: bool((a != b).any()),
      updated['batch_stats'],
      stats['batch_stats'],
    )
    assert all(jax.tree.leaves(changed))
  # A short step down the gradient lowers the loss.
  norm = np.sqrt(sum(float((g**2).sum()) for g in flat.values()))
  moved = jax.tree.map(lambda p, g: p - 1e-3 * g / norm, params, grads)
  assert step(moved)[0] < loss


@pytest.mark.parametrize(
  ('name', 'overrides'),
  [
    ('vgg', {'dropout': (0.25, 0.5), 'input_shape': (16, 16, 1)}),
    ('plain_cnn', {'dropout': 0.5, 'input_shape': (16, 16, 1)}),
    ('micro_expnet', {'dropout': 0.5}),
    (
      'efficientnet_b0',
      {
        'dropout': 0.2,
        'drop_connect': 0.5,
        'stages': ((2, 8, 3, 1, 2), (2, 8, 3, 1, 2)),
        'input_shape': (16, 16, 3),
      },
    ),
  ],
)
def test_dropout_acts_in_training_only(name, overrides, draw):
  model = models.create(name, **overrides)
  variables = draw(model)
  image = np.random.default_rng(0).uniform(size=(2, *model.input_shape))
  image = image.astype(np.float32)

  @jax.jit
  def train(seed):
    return model.apply(
      variables,
      image,
      train=True,
      mutable=['batch_stats'],
      rngs={'dropout': jax.random.key(seed)},
    )[0]

  one, again, other = train(1), train(1), train(2)
  np.testing.assert_array_equal(one, again)
  assert np.abs(one - other).max() > 1e-4
  test = jax.jit(lambda: model.apply(variables, image))
  np.testing.assert_array_equal(test(), test())
