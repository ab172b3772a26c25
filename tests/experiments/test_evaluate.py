"""`python -m experiments.evaluate`, in process."""

from __future__ import annotations

import json

import numpy as np
import pytest

from experiments import evaluate
from experiments import export
from fer_jax import bundles
from fer_jax import models
from fer_jax.data import arrays
from fer_jax.evaluation import metrics
from fer_jax.evaluation import predict


@pytest.fixture(scope='module')
def bundle(tmp_path_factory, export_flags):
  root = tmp_path_factory.mktemp('checkpoints')
  assert (
    export.run([*export_flags, '--name=tiny', f'--checkpoints={root}']) == 0
  )
  return root / 'tiny'


def _read(path):
  def refuse(constant):
    raise AssertionError(f'{constant} is no JSON')

  return json.loads(path.read_text(), parse_constant=refuse)


def test_bundle_end_to_end(bundle, prepared, sibling, tmp_path, capsys):
  code = evaluate.run(
    [
      '--bundle=tiny',
      f'--checkpoints={bundle.parent}',
      f'--data_dir={prepared}',
      f'--seed_workdirs={sibling}',
      f'--figures={tmp_path}',
      '--threads=2',
    ]
  )
  out = capsys.readouterr().out
  assert code == 0
  bundles.verify(bundle)  # the manifest follows the new figures
  recorded = _read(bundle / 'metrics.json')

  assert list(recorded['splits']) == ['val', 'test']
  assert recorded['split'] == 'test'
  sources = recorded['splits']['test']['sources']
  assert set(sources) == {
    'jax',
    'model.tflite',
    'model_float16.tflite',
    'model_int8.tflite',
  }
  # Recomputed by hand from the files as they are.
  test = arrays.load('rendered_faces', 'test', prepared)
  images = predict.fit(test.images, (24, 24, 1))
  model, variables, _ = models.load(bundle)
  logits = predict.jax_logits(model, variables, images)
  right = (logits.argmax(axis=1) == test.labels).mean()
  assert recorded['accuracy'] == pytest.approx(right)
  assert recorded['n'] == 14
  assert sources['jax']['nll'] == pytest.approx(
    metrics.Sums.of(metrics.softmax(logits), test.labels).mean_nll
  )
  assert np.sum(recorded['confusion']) == 14
  int8 = predict.tflite_probabilities(bundle / 'model_int8.tflite', images)
  accuracy = (int8.argmax(axis=1) == test.labels).mean()
  assert recorded['float_to_int8']['accuracy_difference'] == pytest.approx(
    accuracy - right
  )
  assert sources['jax']['no_twin']['n'] == 14
  assert sources['jax']['flip']['n'] == 14
  assert recorded['temperature']['split'] == 'val'
  assert recorded['temperature']['n'] == 21
  assert recorded['seeds']['values'] == [0, 1]
  assert recorded['seeds']['std'] is not None
  assert recorded['protocol']
  assert recorded['versions']['jax']
  assert set(recorded['git']) == {'revision', 'dirty'}
  assert '--bundle=tiny' in recorded['command']
  assert set(recorded['export']['files']) == set(sources) - {'jax'}

  card = (bundle / 'card.md').read_text()
  assert f'| {100 * right:.2f} |' in card
  assert 'Not evaluated yet' not in card
  for name in ('confusion', 'reliability', 'selective'):
    assert (tmp_path / f'{name}.png').stat().st_size > 1000
  assert 'model_int8.tflite' in out


def test_training_end_to_end(training, prepared):
  code = evaluate.run(
    [
      f'--workdir={training}',
      f'--data_dir={prepared}',
      '--splits=test',
      '--noflip',
      '--seeds=5',
    ]
  )
  assert code == 0
  recorded = _read(training / 'metrics.json')
  assert list(recorded['splits']) == ['test']
  assert list(recorded['splits']['test']['sources']) == ['jax']
  assert 'flip' not in recorded['splits']['test']['sources']['jax']
  assert recorded['bundle'] is None
  assert recorded['float_to_int8'] is None
  # Fitted on validation though only the test split was asked for.
  assert recorded['temperature']['split'] == 'val'
  assert recorded['seeds']['values'] == [5]
  assert not list(training.glob('.metrics*'))


def test_damaged_bundle_is_refused(bundle, prepared, tmp_path, capsys):
  root = tmp_path / 'c'
  copy = root / 'tiny'
  copy.mkdir(parents=True)
  for path in bundle.rglob('*'):
    target = copy / path.relative_to(bundle)
    if path.is_dir():
      target.mkdir(exist_ok=True)
    else:
      target.parent.mkdir(exist_ok=True, parents=True)
      target.write_bytes(path.read_bytes())
  bundles.write_manifest(root)
  (copy / 'model.tflite').write_bytes(b'x')
  before = (copy / 'metrics.json').read_bytes()
  code = evaluate.run([f'--bundle={copy}', f'--data_dir={prepared}'])
  assert code == 1
  assert 'model.tflite: SHA-256 differs' in capsys.readouterr().err
  assert (copy / 'metrics.json').read_bytes() == before


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ([], 'either --bundle or --workdir'),
    (['--bundle=a', '--workdir=b'], 'either --bundle or --workdir'),
    (['--bundle=no_such_net'], "unknown model 'no_such_net'"),
    (['--workdir=no/such'], 'config.json: missing'),
    (['--workdir=TRAINING', '--splits=test,final'], "no split 'final'"),
    (['--workdir=TRAINING', '--splits=test,test'], 'names a split twice'),
    (['--workdir=TRAINING', '--splits=test', '--seeds=0,1'], 'wanted 1'),
    (['--workdir=TRAINING', '--splits=test', '--seeds=x'], 'whole numbers'),
    (
      ['--workdir=TRAINING', '--splits=test', '--seed_workdirs=TRAINING'],
      'wanted one of its own',
    ),
  ],
)
def test_bad_usage_is_one_line(training, prepared, capsys, arguments, message):
  arguments = [a.replace('TRAINING', str(training)) for a in arguments]
  assert evaluate.run([*arguments, f'--data_dir={prepared}']) == 2
  lines = capsys.readouterr().err.strip().splitlines()
  assert lines[-1].startswith('experiments.evaluate: ')
  assert message in lines[-1]


def test_help(capsys):
  assert evaluate.run(['--help']) == 0
  assert '--seed_workdirs' in capsys.readouterr().out
