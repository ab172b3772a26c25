"""The registry: counts of every network, choices, errors."""

import doctest
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from fer_jax import models
from fer_jax.models import __main__ as table

# name: (all parameters, trainable ones, multiply-adds), as `create(name)` makes
# the network at its own input size.
COUNTS = {
  'emotionnet_nano_a': (233_963, 232_649, 72_751_102),
  'emotionnet_nano_b': (142_634, 141_610, 44_209_600),
  'residual_prototype': (273_959, 272_583, 91_165_120),
  'mini_xception': (58_423, 56_951, 10_163_392),
  'iot_classifier': (14_580, 13_876, 637_696),
  'grid_detector': (1_535_139, 1_532_611, 452_423_232),
  'mtcnn_pnet': (6_632, 6_632, 44_760),
  'mtcnn_rnet': (100_178, 100_178, 1_530_768),
  'mtcnn_onet': (389_040, 389_040, 12_909_952),
  'resnet50': (23_602_055, 23_548_935, 3_855_939_584),
  'mobilenet_v1': (3_236_039, 3_214_151, 567_723_520),
  'efficientnet_b0': (4_058_531, 4_016_515, 384_543_712),
  'vgg': (8_756_679, 8_756_679, 875_830_272),
  'plain_cnn': (642_935, 641_463, 71_550_720),
  'dense_lite': (95_263, 91_727, 22_682_204),
  'micro_expnet': (71_368, 71_368, 1_504_896),
}
# As deployed: batch norm folded into biases, nothing but `params`.
DEPLOYED = {'emotionnet_nano_a': 231_992, 'emotionnet_nano_b': 141_098}


def test_every_network_is_counted():
  assert set(models.names()) == set(COUNTS)
  folded = {name for name, entry in models.ENTRIES.items() if entry.deployed}
  assert folded == set(DEPLOYED)


@pytest.mark.parametrize('name', models.names())
def test_counts(name):
  model = models.create(name)
  shapes = models.shapes(model)
  assert (
    models.count_parameters(shapes),
    models.count_trainable_parameters(shapes),
    models.multiply_adds(model),
  ) == COUNTS[name]


@pytest.mark.parametrize('name', DEPLOYED)
def test_counts_as_deployed(name):
  model = models.create(name, **models.ENTRIES[name].deployed)
  shapes = models.shapes(model)
  assert set(shapes) == {'params'}
  assert models.count_parameters(shapes) == DEPLOYED[name]
  # Folding changes nothing about the convolutions.
  assert models.multiply_adds(model) == COUNTS[name][2]


@pytest.mark.parametrize(
  ('name', 'overrides', 'count'),
  [
    # Colour images, as the public transcriptions count Nano-B.
    (
      'emotionnet_nano_b',
      {'use_norm': False, 'input_shape': (48, 48, 3)},
      141_296,
    ),
    # The Keras CIFAR-10 example prints this for its ResNet-20 v1.
    (
      'residual_prototype',
      {'num_classes': 10, 'input_shape': (32, 32, 3)},
      274_442,
    ),
    # keras.applications with their 1,000 classes (EfficientNet less 7).
    ('resnet50', {'num_classes': 1000}, 25_636_712),
    ('mobilenet_v1', {'num_classes': 1000}, 4_253_864),
    ('efficientnet_b0', {'num_classes': 1000}, 5_330_564),
    ('dense_lite', {'input_shape': (48, 48, 1)}, 88_991),
    ('mtcnn_pnet', {'landmarks': True}, 6_632 + 330),
    ('mtcnn_onet', {'landmarks': False}, 389_040 - 2_570),
  ],
)
def test_counts_with_overrides(name, overrides, count):
  model = models.create(name, **overrides)
  assert models.count_parameters(models.shapes(model)) == count


def test_multiply_adds_by_hand():
  # MicroExpNet: outputs times the inputs each one reads.
  conv1 = 21 * 21 * 16 * (8 * 8 * 1)
  conv2 = 11 * 11 * 32 * (4 * 4 * 16)
  dense = 11 * 11 * 32 * 16 + 16 * 8
  model = models.create('micro_expnet')
  assert models.multiply_adds(model) == conv1 + conv2 + dense


def test_multiply_adds_of_depthwise_layers_by_hand():
  model = models.create(
    'iot_classifier', stem=(), modules=(4,), input_shape=(8, 8, 3)
  )
  shortcut = 4 * 4 * 4 * 3
  separable = 8 * 8 * (3 * 9 + 3 * 4) + 8 * 8 * (4 * 9 + 4 * 4)
  dense = 4 * 4
  assert models.multiply_adds(model) == shortcut + separable + dense


@pytest.mark.parametrize(
  'name', ['mini_xception', 'mtcnn_rnet', 'micro_expnet']
)
def test_shapes_are_those_of_init(name):
  model = models.create(name)
  variables = models.init(model, jax.random.key(0))
  assert jax.tree.map(lambda x: (x.shape, x.dtype), variables) == jax.tree.map(
    lambda x: (x.shape, x.dtype), models.shapes(model)
  )


def test_init_depends_on_the_key_only():
  model = models.create('micro_expnet', input_shape=(24, 24, 1))
  one = models.init(model, jax.random.key(1))
  again = models.init(model, jax.random.key(1), batch_size=3)
  other = models.init(model, jax.random.key(2))
  same = jax.tree.map(lambda a, b: bool((a == b).all()), one, again)
  assert all(jax.tree.leaves(same))
  kernels = [v['params']['conv1']['kernel'] for v in (one, other)]
  assert not (kernels[0] == kernels[1]).all()


def test_init_works_inside_jit():
  model = models.create('micro_expnet', input_shape=(24, 24, 1))
  inside = jax.jit(lambda rng: models.init(model, rng))(jax.random.key(1))
  outside = models.init(model, jax.random.key(1))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
    inside,
    outside,
  )


def test_values_from_json_are_taken():
  model = models.create(
    'mini_xception', input_shape=[48, 48, 1], modules=[8, 16], dtype='bfloat16'
  )
  assert model.input_shape == (48, 48, 1)
  assert model.modules == (8, 16)
  assert jnp.dtype(model.dtype) == jnp.bfloat16
  hash(model)


@pytest.mark.parametrize(
  ('name', 'overrides', 'words'),
  [
    ('mini_xeption', {}, ('mini_xeption', "mean 'mini_xception'", 'resnet50')),
    ('', {}, ('unknown model', 'vgg')),
    (
      'mini_xception',
      {'num_clases': 3},
      ('num_clases', "mean 'num_classes'", 'input_shape'),
    ),
    ('mini_xception', {'name': 'x'}, ("'name'",)),
    ('mtcnn_pnet', {'num_classes': 3}, ('num_classes', 'landmarks')),
    ('vgg', {'num_classes': 0}, ('num_classes', '0')),
    ('vgg', {'num_classes': True}, ('num_classes', 'True')),
    ('vgg', {'input_shape': (48, 48)}, ('input_shape', '(48, 48)')),
    ('vgg', {'input_shape': 48}, ('input_shape', '48')),
    ('vgg', {'input_shape': (48, 48, 0)}, ('input_shape',)),
    ('vgg', {'dtype': 'int8'}, ('dtype', 'int8')),
    ('vgg', {'dtype': 'flot32'}, ('dtype', 'flot32')),
  ],
)
def test_bad_requests_are_refused_in_one_line(name, overrides, words):
  with pytest.raises(ValueError) as caught:
    models.create(name, **overrides)
  message = str(caught.value)
  assert '\n' not in message
  for word in words:
    assert word in message


def test_docstring_examples_hold():
  results = doctest.testmod(models)
  assert results.attempted > 5
  assert results.failed == 0


def test_import_pulls_in_no_tensorflow_and_no_data():
  code = (
    'import sys, fer_jax.models;'
    'bad = {"tensorflow", "keras", "tensorflow_datasets", "fer_jax.data"};'
    'sys.exit(", ".join(bad & set(sys.modules)) or 0)'
  )
  done = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=False
  )
  assert done.returncode == 0, done.stderr


def test_table_lists_every_network(capsys):
  table.main([])
  lines = capsys.readouterr().out.splitlines()
  assert lines[0].split() == [
    'name', 'input', 'parameters', 'multiply-adds', 'output', 'paper',
  ]  # fmt: skip
  body = {line.split()[0]: line for line in lines[2 : 2 + len(COUNTS)]}
  assert set(body) == set(COUNTS)
  for name, (count, _, operations) in COUNTS.items():
    count = DEPLOYED.get(name, count)
    assert f' {count:,} ' in body[name]
    assert f' {operations:,} ' in body[name]
    assert body[name].endswith(models.ENTRIES[name].paper)
