"""Looking into files, and refusing those that differ from the network."""

from __future__ import annotations

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from fer_jax.evaluation import predict
from fer_jax.export import graph
from fer_jax.export import parity


def _altered(content, change):
  """The file with the bytes of its largest weight buffer changed."""
  model = schema.ModelT.InitFromPackedBuf(bytearray(content), 0)
  buffer = max(
    (b for b in model.buffers if b.data is not None), key=lambda b: len(b.data)
  )
  buffer.data = change(np.array(buffer.data, np.uint8))
  builder = flatbuffers.Builder(len(content))
  builder.Finish(model.Pack(builder), b'TFL3')
  return bytes(builder.Output())


def _check(precision, content, faces, reference, limits=None):
  found = predict.tflite_probabilities(content, faces)
  return parity.check(
    f'model_{precision}.tflite',
    reference,
    found,
    limits or parity.LIMITS[precision],
  )


@pytest.mark.parametrize('precision', ['float32', 'float16', 'int8'])
def test_good_files_pass(
  exported, faces, reference, precision, random_agreement
):
  labels = reference.argmax(axis=1)
  labels[::7] = (labels[::7] + 1) % 7
  result = parity.compare(
    reference,
    predict.tflite_probabilities(exported[precision], faces),
    labels,
  )
  assert result.n == 200
  assert result.accuracy == pytest.approx(1 - len(labels[::7]) / 200)
  limits = parity.LIMITS[precision]
  if precision == 'int8':
    limits = parity.Limits(min_agreement=random_agreement)
  _check(precision, exported[precision], faces, reference, limits)


def test_repacking_alone_changes_nothing(exported, faces, reference):
  same = _altered(exported['float32'], lambda data: data)
  _check('float32', same, faces, reference)


def test_one_altered_weight_is_caught_in_float32(exported, faces, reference):
  def change(data):
    weights = data.view(np.float32).copy()
    weights[np.abs(weights).argmax()] *= 1.05
    return weights.view(np.uint8)

  altered = _altered(exported['float32'], change)
  with pytest.raises(parity.ParityError) as error:
    _check('float32', altered, faces, reference)
  assert 'model_float32.tflite' in str(error.value)
  assert '1e-05' in str(error.value)
  assert '200 images' in str(error.value)


@pytest.mark.parametrize('precision', ['float16', 'int8'])
def test_shuffled_weights_are_caught(exported, faces, reference, precision):
  def change(data):
    width = 2 if precision == 'float16' else 1
    rows = data.reshape(-1, width).copy()
    np.random.default_rng(0).shuffle(rows)
    return rows.reshape(-1)

  altered = _altered(exported[precision], change)
  with pytest.raises(parity.ParityError, match=f'model_{precision}.tflite'):
    _check(precision, altered, faces, reference)


def test_accuracy_drop_is_caught():
  rng = np.random.default_rng(0)
  p = rng.dirichlet(np.ones(4), 400)
  labels = p.argmax(axis=1)
  worse = p.copy()
  worse[:20] = worse[:20, ::-1]  # all of the 5 % were right
  limits = parity.Limits(max_accuracy_drop=0.02)
  with pytest.raises(parity.ParityError, match=r'f: accuracy .* points below'):
    parity.check('f', p, worse, limits, labels)
  parity.check('f', p, worse, limits)  # without labels nothing can be said


def test_nan_never_passes():
  p = np.full((3, 2), 0.5)
  bad = p.copy()
  bad[1, 0] = np.nan
  for limits in (parity.Limits(), *parity.LIMITS.values()):
    with pytest.raises(parity.ParityError):
      parity.check('f', p, bad, limits, np.zeros(3, int))


def test_shapes_must_match():
  with pytest.raises(parity.ParityError, match='nothing to compare'):
    parity.compare(np.zeros((2, 3)), np.zeros((2, 4)))


def test_what_is_no_tflite_file():
  with pytest.raises(graph.GraphError, match=r'not a \.tflite file'):
    graph.operations(b'short')


def test_float_files_are_not_int8(exported):
  with pytest.raises(graph.GraphError, match=r'CONV_2D \(float32'):
    graph.require_int8(exported['float32'])
