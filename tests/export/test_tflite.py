"""JAX -> .tflite: answers, signature, folding, integer arithmetic."""

from __future__ import annotations

import builtins

import jax
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from flax import linen as nn

from fer_jax import models
from fer_jax.evaluation import metrics
from fer_jax.evaluation import predict
from fer_jax.export import graph
from fer_jax.export import tflite
from fer_jax.models import layers

SHAPE = (48, 48, 1)


def test_answers_are_of_every_kind(reference):
  """Otherwise the comparisons below would show little."""
  assert len(np.unique(reference.argmax(axis=1))) >= 5
  assert 0.3 < reference.max(axis=1).mean() < 0.95


def test_float32_is_within_1e_5_of_jax(exported, faces, reference):
  found = predict.tflite_probabilities(exported['float32'], faces)
  assert np.abs(found - reference).max() < 1e-5


def test_float16_is_half_the_size_and_near(exported, faces, reference):
  found = predict.tflite_probabilities(exported['float16'], faces)
  assert np.abs(found - reference).max() < 1e-2
  assert len(exported['float16']) < 0.65 * len(exported['float32'])


def test_int8_decides_alike(exported, faces, reference, random_agreement):
  found = predict.tflite_probabilities(exported['int8'], faces)
  assert metrics.agreement(reference, found) >= random_agreement
  assert np.abs(found - reference).mean() < 0.03
  assert len(exported['int8']) < 0.5 * len(exported['float32'])


@pytest.mark.parametrize('precision', tflite.PRECISIONS)
def test_signature(exported, precision):
  interpreter = Interpreter(model_content=exported[precision])
  assert interpreter.get_signature_list() == {
    'serving_default': {'inputs': ['image'], 'outputs': ['probabilities']}
  }
  runner = interpreter.get_signature_runner('serving_default')
  image = runner.get_input_details()['image']
  answer = runner.get_output_details()['probabilities']
  assert image['dtype'] == np.uint8
  assert tuple(image['shape']) == (1, *SHAPE)
  assert answer['dtype'] == np.float32
  assert tuple(answer['shape']) == (1, 7)


@pytest.mark.parametrize('precision', ['float32', 'float16'])
def test_batch_norm_is_folded(exported, precision):
  """No MUL or SUB at all; the four ADDs are the residual sums."""
  assert graph.count(exported[precision]) == {
    'CONV_2D': 14,
    'DEPTHWISE_CONV_2D': 9,
    'MAX_POOL_2D': 4,
    'ADD': 4,
    'CAST': 1,
    'AVERAGE_POOL_2D': 1,
    'RESHAPE': 1,
    'SOFTMAX': 1,
  }


def test_int8_is_int8_between_its_ends(exported):
  ops = graph.operations(exported['int8'])
  assert (ops[0].name, ops[0].input_types, ops[0].output_types) == (
    'QUANTIZE',
    ('uint8',),
    ('int8',),
  )
  assert (ops[-1].name, ops[-1].input_types, ops[-1].output_types) == (
    'DEQUANTIZE',
    ('int8',),
    ('float32',),
  )
  for op in ops[1:-1]:
    assert set(op.input_types + op.output_types) == {'int8'}, op
  assert graph.input_quantization(exported['int8']) == (1.0, 0)


def test_threads_do_not_change_the_answers(exported, faces):
  one = predict.tflite_probabilities(exported['int8'], faces[:20])
  three = predict.tflite_probabilities(exported['int8'], faces[:20], threads=3)
  np.testing.assert_array_equal(one, three)


def test_temperature_is_inside(network, faces):
  model, variables = network
  content = tflite.to_tflite(model, variables, SHAPE, temperature=2.5)
  found = predict.tflite_probabilities(content, faces[:20])
  logits = predict.jax_logits(model, variables, faces[:20])
  expected = metrics.softmax(logits, 2.5)
  assert np.abs(found - expected).max() < 1e-5
  assert np.abs(found - metrics.softmax(logits)).max() > 0.05


def test_dim_images_keep_every_grey_level(network, faces):
  """Calibration on images without black and white does not clip the input."""
  model, variables = network
  dim = faces[:20] // 4 + 60
  content = tflite.to_tflite(
    model, variables, SHAPE, precision='int8', representative=dim
  )
  assert graph.input_quantization(content) == (1.0, 0)
  assert dim.max() < 255  # the caller's images are not written to


@pytest.mark.parametrize('name', ['iot_classifier', 'micro_expnet'])
def test_other_networks(name, random_variables):
  """SAME stems cannot absorb the offset of the image: that is allowed."""
  model = models.create(name)
  variables = random_variables(model)
  content = tflite.to_tflite(model, variables, model.input_shape)
  images = np.random.default_rng(0).integers(
    0, 256, (4, *model.input_shape), np.uint8
  )
  found = predict.tflite_probabilities(content, images)
  expected = metrics.softmax(predict.jax_logits(model, variables, images))
  assert np.abs(found - expected).max() < 1e-5


class _LateNorm(nn.Module):
  """Batch norm behind an activation: nothing to fold it into."""

  @nn.compact
  def __call__(self, image, *, train=False):
    x = nn.relu(layers.Conv(3, name='conv')(image))
    x = layers.BatchNorm(name='norm')(x, train=train)
    return layers.global_average_pool(nn.relu(x))


def test_unfolded_norm_is_refused():
  model = _LateNorm()
  variables = model.init(jax.random.key(0), np.zeros((1, 8, 8, 1), np.float32))
  norm = variables['batch_stats']['norm']
  norm['mean'] = norm['mean'] + 0.3
  with pytest.raises(tflite.ExportError, match=r'not folded.*constant'):
    tflite.to_tflite(model, variables, (8, 8, 1))
  content = tflite.to_tflite(model, variables, (8, 8, 1), require_folded=False)
  assert set(graph.count(content)) & {'MUL', 'ADD'}


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'precision': 'int4'}, 'choose one of float32, float16, int8'),
    ({'precision': 'int8'}, 'representative'),
    (
      {'precision': 'int8', 'representative': np.zeros((2, 8, 8, 1), np.uint8)},
      r'must be uint8 \[N, 48, 48, 1\]',
    ),
    ({'temperature': 0.0}, 'temperature'),
    ({'temperature': float('nan')}, 'temperature'),
  ],
)
def test_bad_arguments(network, changes, message):
  with pytest.raises(tflite.ExportError, match=message):
    tflite.to_tflite(*network, SHAPE, **changes)


def test_what_the_converter_cannot_do_is_one_line(capfd):
  class Sorting(nn.Module):
    @nn.compact
    def __call__(self, image, *, train=False):
      flat = image.reshape((1, -1))
      return flat @ jax.numpy.linalg.inv(flat.T @ flat)

  with pytest.raises(tflite.ExportError) as error:
    tflite.to_tflite(Sorting(), {}, (3, 1, 1))
  assert 'float32 graph' in str(error.value)
  assert '\n' not in str(error.value)
  capfd.readouterr()  # the converter's own words, held back until it failed


def test_without_tensorflow(network, monkeypatch):
  original = builtins.__import__

  def refuse(name, *arguments, **options):
    if name == 'tensorflow':
      raise ImportError(name)
    return original(name, *arguments, **options)

  monkeypatch.setattr(builtins, '__import__', refuse)
  with pytest.raises(ImportError, match=r'fer-jax\[export\]'):
    tflite.to_tflite(*network, SHAPE)
