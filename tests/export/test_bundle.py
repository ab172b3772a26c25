"""Bundles: complete, verified, all or nothing."""

from __future__ import annotations

import json
import re

import jax
import numpy as np
import pytest

from fer_jax import bundles
from fer_jax import models
from fer_jax.evaluation import metrics
from fer_jax.evaluation import predict
from fer_jax.evaluation import report
from fer_jax.export import bundle
from fer_jax.export import card
from fer_jax.export import parity
from fer_jax.export import tflite

FILES = {
  'model.tflite',
  'model_float16.tflite',
  'model_int8.tflite',
  'labels.txt',
  'model.json',
  'card.md',
  'metrics.json',
  'golden.npz',
}


@pytest.fixture
def write(
  network, metadata, faces, reference, exported, monkeypatch, random_agreement
):
  """Writes a bundle; conversion, tested elsewhere, is done once."""
  monkeypatch.setattr(
    tflite, 'to_tflite', lambda *a, precision, **k: exported[precision]
  )

  def call(root, name='face_net', **changes):
    model, variables = network
    options = {
      'model': model,
      'variables': variables,
      'metadata': metadata,
      'representative': faces[:8],
      'images': faces,
      'labels': reference.argmax(axis=1),
      'limits': parity.LIMITS
      | {'int8': parity.Limits(min_agreement=random_agreement)},
    } | changes
    return bundle.write(root, name, **options)

  return call


def _snapshot(root):
  return {
    str(p.relative_to(root)): p.read_bytes()
    for p in root.rglob('*')
    if p.is_file()
  }


def test_layout_is_complete_and_verified(tmp_path, write, metadata):
  reports = write(tmp_path)
  folder = tmp_path / 'face_net'
  assert {p.name for p in folder.iterdir()} == FILES | {'params'}
  assert {p.name for p in tmp_path.iterdir()} == {'face_net', 'MANIFEST.json'}
  bundles.verify(folder)
  labels = (folder / 'labels.txt').read_text().splitlines()
  assert labels == metadata['labels']
  data = bundles.metadata(folder)
  assert data['format'] == 1
  assert data['temperature'] is None
  assert [r.precision for r in reports] == ['float32', 'float16', 'int8']
  recorded = bundle.read_metrics(folder)
  for r in reports:
    assert (folder / r.file).stat().st_size == r.bytes
    assert recorded['export']['files'][r.file]['bytes'] == r.bytes


def test_weights_come_back(tmp_path, write, network, faces):
  write(tmp_path)
  model, variables, labels = models.load(f'{tmp_path}/face_net')
  assert len(labels) == 7
  jax.tree.map(np.testing.assert_array_equal, variables, network[1])
  np.testing.assert_array_equal(
    predict.jax_logits(model, variables, faces[:4]),
    predict.jax_logits(*network, faces[:4]),
  )


def test_golden_pair_is_what_the_files_answer(tmp_path, write):
  write(tmp_path)
  folder = tmp_path / 'face_net'
  with np.load(folder / 'golden.npz', allow_pickle=False) as golden:
    images = golden['image']
    assert images.dtype == np.uint8
    assert images.shape == (16, 48, 48, 1)
    for key, file in (
      ('probabilities', 'model.tflite'),
      ('probabilities_int8', 'model_int8.tflite'),
    ):
      assert golden[key].dtype == np.float32
      np.testing.assert_allclose(
        golden[key],
        predict.tflite_probabilities(folder / file, images),
        atol=1e-6,
      )
    assert len(np.unique(golden['probabilities'].argmax(axis=1))) > 1


def test_golden_images_are_made_up_and_repeatable():
  images = bundle.golden_images((32, 40, 3))
  assert images.shape == (16, 32, 40, 3)
  np.testing.assert_array_equal(images, bundle.golden_images((32, 40, 3)))
  assert images[0].std() < images[-1].std()


def test_nothing_names_this_machine(tmp_path, write):
  write(tmp_path)
  for path, content in _snapshot(tmp_path).items():
    assert str(tmp_path).encode() not in content, path


@pytest.mark.parametrize(
  'where', ['_write_params', '_write_golden', 'card.render', 'manifest']
)
@pytest.mark.parametrize('before', [False, True])
def test_a_failure_leaves_what_was_there(
  tmp_path, write, monkeypatch, where, before
):
  if before:
    write(tmp_path)
  else:
    tmp_path.mkdir(exist_ok=True)
  there = _snapshot(tmp_path)

  def fail(*arguments, **options):
    raise OSError('No space left on device')

  target, name = {
    'card.render': (card, 'render'),
    'manifest': (bundles, 'write_manifest'),
  }.get(where, (bundle, where))
  monkeypatch.setattr(target, name, fail)
  with pytest.raises(OSError, match='No space'):
    write(tmp_path)
  assert _snapshot(tmp_path) == there
  assert {p.name for p in tmp_path.iterdir()} == (
    {'face_net', 'MANIFEST.json'} if before else set()
  )
  if before:
    bundles.verify(tmp_path / 'face_net')


def test_a_network_that_is_not_the_files_is_refused(tmp_path, write, network):
  other = jax.tree.map(np.copy, network[1])
  other['params']['classes']['bias'] = -other['params']['classes']['bias']
  with pytest.raises(parity.ParityError, match=r'^model\.tflite: '):
    write(tmp_path, variables=other)
  assert list(tmp_path.iterdir()) == []


def test_bad_names_and_images(tmp_path, write, faces, metadata):
  for name in ('', '..', 'a/b', '.hidden', 'Upper'):
    with pytest.raises(ValueError, match='bad bundle name'):
      write(tmp_path, name)
  with pytest.raises(ValueError, match='parity images'):
    write(tmp_path, images=faces[:, :40])
  with pytest.raises(ValueError, match=r'7 outputs.*2 labels'):
    write(tmp_path, metadata=metadata | {'labels': ['a', 'b']})
  assert list(tmp_path.iterdir()) == []


def _figures(names):
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (40, 4, 4, 1), np.uint8)
  labels = rng.integers(0, len(names), 40)
  logits = rng.normal(0, 2, (40, len(names)))
  p = metrics.softmax(logits)
  split, _ = report.split_report(
    {'jax': lambda im: p, 'model_int8.tflite': lambda im: np.round(p, 1)},
    images,
    labels,
    names,
    logits=logits,
    temperature=1.5,
    twin=np.arange(40) < 4,
  )
  splits = {'test': split}
  return {
    'format': 1,
    'bundle': 'face_net',
    'model': 'mini_xception',
    **report.headline(splits, 'test'),
    'temperature': {'fitted': 1.5, 'split': 'val', 'n': 9, 'in_files': None},
    'seeds': report.seed_summary({0: 0.5, 1: 0.6}, 'test'),
    'splits': splits,
    'command': 'python -m x',
    'git': {'revision': 'abc', 'dirty': True},
    'date': '2026-01-01',
  }


def test_update_writes_figures_card_and_manifest(tmp_path, write, metadata):
  write(tmp_path)
  folder = tmp_path / 'face_net'
  weights = (folder / 'model.tflite').read_bytes()
  figures = _figures(metadata['labels'])
  bundle.update(folder, figures)
  bundles.verify(folder)
  text = (folder / 'metrics.json').read_text()

  def refuse(constant):
    raise AssertionError(f'{constant} is no JSON')

  recorded = json.loads(text, parse_constant=refuse)
  assert recorded['accuracy'] == figures['accuracy']
  assert set(recorded['export']['files']) == set(bundle.FILES.values())
  assert (folder / 'model.tflite').read_bytes() == weights
  written = (folder / 'card.md').read_text()
  assert f'{100 * figures["accuracy"]:.2f}' in written
  for heading in (
    'Data and terms',
    'Per class',
    'Confusion',
    'Calibration',
    'int8',
    'Limits',
    'Who should not use it',
    'Provenance',
  ):
    assert re.search(f'^##+ {heading}', written, re.MULTILINE), heading
  assert 'research use only' in written
  assert 'None' not in written
  assert not re.search(r'\bnan\b', written)


def test_update_refuses_nan_and_changes_nothing(tmp_path, write, metadata):
  write(tmp_path)
  there = _snapshot(tmp_path)
  figures = _figures(metadata['labels']) | {'accuracy': float('nan')}
  with pytest.raises(ValueError, match='/accuracy is nan'):
    bundle.update(tmp_path / 'face_net', figures)
  assert _snapshot(tmp_path) == there


def test_card_before_evaluation_says_so(metadata):
  text = card.render(metadata, {'bundle': 'b'})
  assert 'Not evaluated yet' in text
  drawn = card.render(metadata | {'data': 'rendered_faces'}, {'bundle': 'b'})
  assert 'not fit for photographs' in drawn
  assert 'not fit for photographs' not in text
