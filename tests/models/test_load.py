"""`models.load`: a bundle comes back as it was saved, or is refused."""

import json

import jax
import numpy as np
import pytest
from orbax import checkpoint as ocp

from fer_jax import bundles
from fer_jax import models

LABELS = ('neutral', 'angry', 'surprise', 'happy')
OVERRIDES = {'input_shape': [16, 16, 1], 'modules': [8]}


@pytest.fixture
def bundle(tmp_path, monkeypatch):
  """A bundle called `small` in a folder that is searched first."""
  folder = tmp_path / 'small'
  folder.mkdir()
  model = models.create('iot_classifier', **OVERRIDES)
  variables = models.init(model, jax.random.key(4))
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(folder / 'params', variables)
  _describe(folder, overrides=OVERRIDES)
  monkeypatch.setenv('FER_JAX_CHECKPOINTS', str(tmp_path))
  return folder, variables


def _describe(folder, model='iot_classifier', overrides=None):
  data = {
    'format': 1,
    'model': model,
    'overrides': overrides,
    'label_set': 'iot4',
    'labels': list(LABELS),
    'input_shape': [16, 16, 1],
    'kind': 'classifier',
  }
  (folder / 'model.json').write_text(json.dumps(data))
  bundles.write_manifest(folder.parent)


@pytest.mark.parametrize('by', ['name', 'path'])
def test_round_trip(bundle, by):
  folder, saved = bundle
  model, variables, labels = models.load('small' if by == 'name' else folder)
  assert labels == LABELS
  assert model.input_shape == (16, 16, 1)
  jax.tree.map(np.testing.assert_array_equal, variables, saved)
  image = np.full((2, 16, 16, 1), 0.25, np.float32)
  assert model.apply(variables, image).shape == (2, 4)


def test_unknown_bundle_lists_the_choices(bundle):
  del bundle
  with pytest.raises(bundles.BundleError, match='small'):
    models.load('smal')


def test_damaged_file_is_named(bundle):
  folder, _ = bundle
  file = max(
    (p for p in (folder / 'params').rglob('*') if p.is_file()),
    key=lambda p: p.stat().st_size,
  )
  data = bytearray(file.read_bytes())
  data[len(data) // 2] ^= 1
  file.write_bytes(data)
  with pytest.raises(bundles.BundleError, match=file.name):
    models.load('small')


@pytest.mark.parametrize(
  ('model', 'overrides', 'words'),
  [
    ('iot_clasifier', OVERRIDES, 'iot_classifier'),
    ('iot_classifier', {'widths': [8]}, 'widths'),
    ('iot_classifier', {**OVERRIDES, 'modules': [12]}, 'params'),
    ('iot_classifier', {**OVERRIDES, 'modules': [8, 16]}, 'params'),
    ('micro_expnet', {'input_shape': [16, 16, 1]}, 'params'),
  ],
)
def test_description_that_does_not_fit_is_refused(
  bundle, model, overrides, words
):
  folder, _ = bundle
  _describe(folder, model, overrides)
  with pytest.raises(bundles.BundleError, match=words) as caught:
    models.load('small')
  assert '\n' not in str(caught.value)
