"""The same weights in Keras' networks and in ours give the same logits.

Keras builds the networks independently of us: `keras.applications`, and
mini_XCEPTION, simple_CNN and the CIFAR ResNet written with Keras layers here.
"""

import re

import jax
import numpy as np
import pytest
from flax import traverse_util

from fer_jax import models

keras = pytest.importorskip('keras')
layers = keras.layers

# Largest difference of a logit, in parts of the largest logit. Float32 sums in
# another order, through up to 160 layers.
TOLERANCE = 2e-5


@pytest.fixture(autouse=True)
def _release_keras():
  yield
  keras.utils.clear_session(free_memory=True)


def _randomise(network, seed=0):
  """Weights without a symmetry that could hide a mix-up.

  Kernels keep the size of the signal on its way (He et al.), so that a deep
  network still tells images apart.
  """
  rng = np.random.default_rng(seed)
  for layer in network.layers:
    if isinstance(layer, layers.Normalization):
      continue
    for weight in layer.weights:
      kind, shape = weight.name, tuple(weight.shape)
      if kind in ('gamma', 'moving_variance'):
        value = rng.uniform(0.6, 1.4, shape)
      elif kind in ('beta', 'bias', 'moving_mean'):
        value = rng.normal(0, 0.1, shape)
      else:
        depthwise = kind == 'depthwise_kernel' or (
          isinstance(layer, layers.DepthwiseConv2D)
        )
        fan_in = np.prod(shape[:2] if depthwise else shape[:-1])
        value = rng.normal(0, np.sqrt(2 / fan_in), shape)
      weight.assign(value.astype(np.float32))


# Keras' name of a weight -> ours, and the collection.
_LEAVES = {
  'kernel': ('params', 'kernel'),
  'bias': ('params', 'bias'),
  'gamma': ('params', 'scale'),
  'beta': ('params', 'bias'),
  'moving_mean': ('batch_stats', 'mean'),
  'moving_variance': ('batch_stats', 'var'),
}


def _transfer(network, path_of, model):
  """Our variables with the weights of a Keras network.

  Args:
    network: the Keras network.
    path_of: name of a Keras layer -> path of ours, as a tuple.
    model: ours.

  Returns:
    Variables; asserts that each of ours has been given exactly one weight of
    its own shape, and that no weight is left over.
  """
  flat = {}
  for layer in network.layers:
    if isinstance(layer, layers.Normalization):
      continue  # constants in ours
    for weight in layer.weights:
      value = np.asarray(weight)
      path, kind = path_of(layer.name), weight.name
      if isinstance(layer, layers.SeparableConv2D):
        part, kind = kind.split('_')
        path = (*path, part)
        if part == 'depthwise':
          value = value.transpose(0, 1, 3, 2)
      elif isinstance(layer, layers.DepthwiseConv2D):
        value = value.transpose(0, 1, 3, 2)
      elif layer.name == 'conv_preds' and kind == 'kernel':
        value = value[0, 0]  # 1x1 convolution of a single pixel
      collection, leaf = _LEAVES[kind]
      key = (collection, *path, leaf)
      assert key not in flat, key
      flat[key] = value
  wanted = traverse_util.flatten_dict(models.shapes(model))
  assert {k: v.shape for k, v in flat.items()} == {
    k: v.shape for k, v in wanted.items()
  }
  return traverse_util.unflatten_dict(flat)


def _image(shape, count=3):
  rng = np.random.default_rng(1)
  image = rng.uniform(size=(count, *shape))
  # Noise alone looks the same to a network that averages over all pixels.
  level = np.linspace(0, 1, count).reshape((count, 1, 1, 1))
  return (0.3 * image + 0.7 * level).astype(np.float32)


def _compare(network, path_of, model, keras_scale=lambda x: 2 * x - 1):
  _randomise(network)
  variables = _transfer(network, path_of, model)
  image = _image(model.input_shape)
  ours = np.asarray(jax.jit(model.apply)(variables, image))
  theirs = np.asarray(network(keras_scale(image), training=False))
  # The images are told apart, by far more than the tolerance.
  spread = np.abs(theirs - theirs[0]).max()
  largest = np.abs(theirs).max()
  assert spread > 100 * TOLERANCE * largest
  assert np.abs(ours - theirs).max() <= TOLERANCE * largest
  return variables


def _keras_mini_xception(size):
  """mini_XCEPTION, layer by layer after the paper's Figure 6."""
  image = x = keras.Input((size, size, 1))

  def norm(y, name):
    return layers.BatchNormalization(name=name)(y)

  for i in (1, 2):
    x = layers.Conv2D(8, 3, use_bias=False, name=f'stem{i}')(x)
    x = layers.ReLU()(norm(x, f'stem{i}_norm'))
  for i, filters in enumerate((16, 32, 64, 128), 1):
    side = layers.Conv2D(
      filters, 1, strides=2, use_bias=False, name=f'module{i}.shortcut'
    )(x)
    side = norm(side, f'module{i}.shortcut_norm')
    for j in (1, 2):
      x = layers.SeparableConv2D(
        filters, 3, padding='same', use_bias=False, name=f'module{i}.conv{j}'
      )(x)
      x = norm(x, f'module{i}.norm{j}')
      if j == 1:
        x = layers.ReLU()(x)
    x = layers.MaxPooling2D(3, strides=2, padding='same')(x)
    x = layers.Add()([x, side])
  x = layers.Conv2D(7, 3, padding='same', name='classes')(x)
  return keras.Model(image, layers.GlobalAveragePooling2D()(x))


def _by_dot(name):
  return tuple(name.split('.'))


@pytest.mark.parametrize('size', [64, 48])
def test_mini_xception(size):
  network = _keras_mini_xception(size)
  assert network.count_params() == 58_423
  model = models.create('mini_xception', input_shape=(size, size, 1))
  _compare(network, _by_dot, model)


def test_mini_xception_in_training():
  """Batch statistics, their running means, and the gradient too."""
  tf = pytest.importorskip('tensorflow')
  network = _keras_mini_xception(32)
  _randomise(network)
  model = models.create('mini_xception', input_shape=(32, 32, 1))
  variables = _transfer(network, _by_dot, model)
  image = _image((32, 32, 1), count=8)
  target = np.random.default_rng(2).normal(size=(8, 7)).astype(np.float32)

  def loss(params):
    logits, updated = model.apply(
      {**variables, 'params': params},
      image,
      train=True,
      mutable=['batch_stats'],
    )
    return ((logits - target) ** 2).mean(), updated['batch_stats']

  (ours, stats), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(
    variables['params']
  )
  with tf.GradientTape() as tape:
    logits = network(2 * image - 1, training=True)
    theirs = tf.reduce_mean((logits - target) ** 2)
  trainable = network.trainable_weights
  slopes = tape.gradient(theirs, [w.value for w in trainable])
  np.testing.assert_allclose(ours, theirs, rtol=1e-5)

  # The running statistics that Keras has just updated are read back.
  after = _transfer(network, _by_dot, model)['batch_stats']
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
    dict(stats),
    after,
  )
  # The gradient takes the place of the weights to be laid out like ours.
  for weight, slope in zip(trainable, slopes, strict=True):
    weight.assign(slope)
  expected = _transfer(network, _by_dot, model)['params']
  largest = max(np.abs(g).max() for g in jax.tree.leaves(expected))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 * largest),
    dict(gradient),
    expected,
  )


def _resnet50_path(name):
  if name == 'predictions':
    return ('classes',)
  stem = re.fullmatch(r'conv1_(conv|bn)', name)
  if stem:
    return ('conv1' if stem[1] == 'conv' else 'norm1',)
  block, number, kind = re.fullmatch(
    r'(conv\d_block\d)_(\d)_(conv|bn)', name
  ).groups()
  return block, ('conv' if kind == 'conv' else 'norm') + number


def test_resnet50():
  network = keras.applications.ResNet50(
    weights=None,
    input_shape=(64, 64, 3),
    classes=7,
    classifier_activation=None,
  )
  model = models.create('resnet50', input_shape=(64, 64, 3))
  assert network.count_params() == models.count_parameters(models.shapes(model))
  _compare(network, _resnet50_path, model)


def _mobilenet_path(name):
  if name == 'conv_preds':
    return ('classes',)
  if name.startswith('conv1'):
    return ('stem_norm' if name.endswith('_bn') else 'stem',)
  kind, number, norm = re.fullmatch(r'conv_(dw|pw)_(\d+)(_bn)?', name).groups()
  layer = {'dw': 'depthwise', 'pw': 'pointwise'}[kind]
  return f'block{number}', layer + ('_norm' if norm else '')


@pytest.mark.parametrize('size', [64, 75])
def test_mobilenet_v1(size):
  # An odd size as well: Keras' padding is not SAME there.
  shape = (size, size, 3)
  network = keras.applications.MobileNet(
    weights=None, input_shape=shape, classes=7, classifier_activation=None
  )
  model = models.create('mobilenet_v1', input_shape=shape)
  assert network.count_params() == models.count_parameters(models.shapes(model))
  _compare(network, _mobilenet_path, model)


_MB_LAYERS = {
  'expand_conv': 'expand',
  'expand_bn': 'expand_norm',
  'dwconv': 'depthwise',
  'bn': 'depthwise_norm',
  'se_reduce': 'squeeze',
  'se_expand': 'excite',
  'project_conv': 'project',
  'project_bn': 'project_norm',
}
_MB_OUTSIDE = {
  'stem_conv': 'stem',
  'stem_bn': 'stem_norm',
  'top_conv': 'top',
  'top_bn': 'top_norm',
  'predictions': 'classes',
}


def _efficientnet_path(name):
  if name in _MB_OUTSIDE:
    return (_MB_OUTSIDE[name],)
  stage, block, layer = re.fullmatch(r'block(\d)([a-d])_(\w+)', name).groups()
  return f'stage{stage}_block{"abcd".index(block) + 1}', _MB_LAYERS[layer]


def test_efficientnet_b0():
  network = keras.applications.EfficientNetB0(
    weights=None,
    input_shape=(64, 64, 3),
    classes=7,
    classifier_activation=None,
  )
  model = models.create('efficientnet_b0', input_shape=(64, 64, 3))
  # Mean and variance of three channels and a count: constants in ours.
  assert network.count_params() == 7 + models.count_parameters(
    models.shapes(model)
  )
  # Its first layer divides by 255; the normalisation is the identity at first.
  _compare(
    network, _efficientnet_path, model, keras_scale=lambda x: 255 * (2 * x - 1)
  )


def test_plain_cnn():
  image = x = keras.Input((48, 48, 1))
  for i, (filters, size) in enumerate(((16, 7), (32, 5), (64, 3), (128, 3)), 1):
    for j in (1, 2):
      x = layers.Conv2D(
        filters, size, padding='same', name=f'stage{i}_conv{j}'
      )(x)
      x = layers.BatchNormalization(name=f'stage{i}_conv{j}_norm')(x)
    x = layers.AveragePooling2D(2, padding='same')(layers.ReLU()(x))
  x = layers.Conv2D(256, 3, padding='same', name='last')(x)
  x = layers.BatchNormalization(name='last_norm')(x)
  x = layers.Conv2D(7, 3, padding='same', name='classes')(x)
  network = keras.Model(image, layers.GlobalAveragePooling2D()(x))
  _compare(network, _by_dot, models.create('plain_cnn'))


def test_residual_prototype():
  image = x = keras.Input((48, 48, 1))

  def unit(y, filters, name, norm, size=3, strides=1):
    y = layers.Conv2D(
      filters, size, strides=strides, padding='same', name=name
    )(y)
    return layers.BatchNormalization(name=norm)(y) if norm else y

  x = layers.ReLU()(unit(x, 16, 'stem', 'stem_norm'))
  for i, filters in enumerate((16, 32, 64), 1):
    for j in (1, 2, 3):
      block, strides = f'stage{i}_block{j}', 2 if i > 1 and j == 1 else 1
      y = unit(x, filters, f'{block}.conv1', f'{block}.norm1', 3, strides)
      y = unit(layers.ReLU()(y), filters, f'{block}.conv2', f'{block}.norm2')
      if strides == 2:
        x = unit(x, filters, f'{block}.shortcut', None, 1, 2)
      x = layers.ReLU()(layers.Add()([x, y]))
  x = layers.Dense(7, name='classes')(layers.GlobalAveragePooling2D()(x))
  network = keras.Model(image, x)
  _compare(network, _by_dot, models.create('residual_prototype'))
