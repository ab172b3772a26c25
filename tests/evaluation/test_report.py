"""Reports, protocols and where figures come from."""

from __future__ import annotations

import json
import subprocess

import numpy as np
import pytest

from fer_jax.evaluation import metrics
from fer_jax.evaluation import protocols
from fer_jax.evaluation import provenance
from fer_jax.evaluation import report

NAMES = ['a', 'b', 'c']


def _setup(n=60):
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (n, 4, 4, 1), np.uint8)
  labels = rng.integers(0, 3, n)
  logits = rng.normal(0, 2, (n, 3))
  logits[np.arange(n), labels] += 2
  table = {im.tobytes(): z for im, z in zip(images, logits, strict=True)}
  flat = np.zeros(3)

  def jax_source(batch):
    # A mirrored image is not in the table: no opinion.
    return metrics.softmax(
      np.stack([table.get(im.tobytes(), flat) for im in batch])
    )

  def rounded(batch):
    return np.round(jax_source(batch) * 4) / 4

  return (
    images,
    labels,
    logits,
    {
      'jax': jax_source,
      'model_int8.tflite': rounded,
    },
  )


def test_split_report_has_what_was_asked_for():
  images, labels, logits, sources = _setup()
  twin = np.arange(60) < 20
  split, found = report.split_report(
    sources, images, labels, NAMES, logits=logits, temperature=2.0, twin=twin
  )
  jax_part = split['sources']['jax']
  right = logits.argmax(axis=1) == labels
  assert split['n'] == 60
  assert jax_part['accuracy'] == pytest.approx(right.mean())
  assert jax_part['no_twin']['n'] == 40
  assert jax_part['no_twin']['accuracy'] == pytest.approx(right[20:].mean())
  # The mirror image adds a constant, so decisions stay.
  assert jax_part['flip']['accuracy'] == pytest.approx(right.mean())
  scaled = metrics.Sums.of(metrics.softmax(logits, 2.0), labels)
  assert jax_part['with_temperature']['ece'] == pytest.approx(scaled.ece)
  plain = metrics.Sums.of(metrics.softmax(logits), labels)
  assert jax_part['with_temperature']['ece_before'] == pytest.approx(plain.ece)
  versus = split['sources']['model_int8.tflite']['versus_jax']
  assert versus['max_difference'] <= 0.125 + 1e-12
  assert set(found) == set(sources)
  json.dumps(split, allow_nan=False)

  head = report.headline({'test': split}, 'test')
  assert head['accuracy'] == jax_part['accuracy']
  assert head['float_to_int8'] == versus
  assert head['ece_after_temperature'] == pytest.approx(scaled.ece)


def test_every_test_image_a_twin():
  images, labels, _, sources = _setup()
  split, _ = report.split_report(
    sources, images, labels, NAMES, twin=np.ones(60, bool), flip=False
  )
  assert split['sources']['jax']['no_twin'] == {'n': 0}
  assert 'flip' not in split['sources']['jax']


def test_seeds():
  one = report.seed_summary({3: 0.6}, 'test')
  assert one['std'] is None
  assert one['mean'] == 0.6
  three = report.seed_summary({0: 0.5, 1: 0.6, 2: 0.7}, 'test')
  assert three['mean'] == pytest.approx(0.6)
  assert three['std'] == pytest.approx(0.1)
  assert three['values'] == [0, 1, 2]


def test_unknown_protocol_lists_the_choices():
  assert protocols.get('fer2013').test == 'private_test'
  with pytest.raises(ValueError, match='rendered_faces'):
    protocols.get('imagenet')


def test_git_revision(tmp_path):
  assert provenance.git_revision(tmp_path) == {'revision': None, 'dirty': None}

  def git(*arguments):
    subprocess.run(
      ['git', '-C', tmp_path, '-c', 'user.name=n', '-c', 'user.email=e@e',
       *arguments],
      check=True,
      capture_output=True,
    )  # fmt: skip

  git('init')
  (tmp_path / 'f').write_text('1')
  git('add', 'f')
  git('commit', '-m', 'first')
  clean = provenance.git_revision(tmp_path)
  assert len(clean['revision']) == 40
  assert clean['dirty'] is False
  (tmp_path / 'f').write_text('2')
  assert provenance.git_revision(tmp_path)['dirty'] is True


def test_command_has_no_absolute_path(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  text = provenance.command_line(
    'experiments.evaluate',
    [
      f'--workdir={tmp_path}/runs/a',
      '--data_dir=/somewhere/else/data',
      '--splits=val,test',
      f'--seed_workdirs={tmp_path}/b,{tmp_path}/c',
    ],
  )
  assert text == (
    'python -m experiments.evaluate --workdir=runs/a --data_dir=data '
    '--splits=val,test --seed_workdirs=b,c'
  )


def test_json_is_strict():
  assert json.loads(provenance.dump({'a': [1, None, 0.5]})) == {
    'a': [1, None, 0.5]
  }
  with pytest.raises(ValueError, match='/a/1 is nan'):
    provenance.dump({'a': [1, float('nan')]})


def test_collected_facts():
  facts = provenance.collect('m', ['--x=1'])
  assert facts['command'] == 'python -m m --x=1'
  assert 'jax' in facts['versions']
  assert facts['date'].endswith('+00:00')
