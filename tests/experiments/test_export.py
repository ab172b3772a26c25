"""`python -m experiments.export`, in process."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from experiments import export
from fer_jax import bundles
from fer_jax.evaluation import predict
from fer_jax.export import bundle


@pytest.fixture(scope='module')
def exported(tmp_path_factory, export_flags):
  root = tmp_path_factory.mktemp('checkpoints')
  assert (
    export.run([*export_flags, '--name=tiny', f'--checkpoints={root}']) == 0
  )
  return root / 'tiny'


def test_bundle_is_whole(exported):
  bundles.verify(exported)
  data = bundles.metadata(exported)
  assert data['model'] == 'mini_xception'
  assert data['input_shape'] == [24, 24, 1]
  assert data['overrides']['num_classes'] == 7
  assert data['data'] == 'rendered_faces'
  assert data['temperature'] is None
  assert (data['seed'], data['step']) == (0, 0)


def test_parity_was_recorded(exported):
  recorded = bundle.read_metrics(exported)['export']
  parity = recorded['files']['model.tflite']['parity']
  assert parity['n'] == 21
  assert parity['max_error'] < 1e-5
  assert recorded['provenance']['command'].startswith(
    'python -m experiments.export --workdir=tiny '
  )


def test_table_is_printed(exported, export_flags, tmp_path, capsys):
  code = export.run(
    [*export_flags, '--name=tiny', f'--checkpoints={tmp_path}',
     '--temperature=fit']
  )  # fmt: skip
  assert code == 0
  out = capsys.readouterr().out
  for file in bundle.FILES.values():
    assert file in out
  assert 'CONV_2D' in out
  assert 'rendered_faces/val' in out
  assert bundles.metadata(tmp_path / 'tiny')['temperature'] > 0


def test_refused_export_leaves_the_bundle(
  exported, export_flags, monkeypatch, capsys
):
  """A file that differs from JAX: one line, exit code 1, nothing changed."""
  before = {p: p.read_bytes() for p in exported.rglob('*') if p.is_file()}
  good = predict.tflite_probabilities
  monkeypatch.setattr(
    predict, 'tflite_probabilities', lambda *a, **k: good(*a, **k) + 1e-3
  )
  code = export.run(
    [*export_flags, '--name=tiny', f'--checkpoints={exported.parent}']
  )
  assert code == 1
  error = capsys.readouterr().err.strip().splitlines()[-1]
  assert error.startswith('experiments.export: model.tflite: a probability is ')
  after = {p: p.read_bytes() for p in exported.rglob('*') if p.is_file()}
  assert after == before


@pytest.mark.parametrize(
  ('changes', 'code', 'message'),
  [
    (['--workdir='], 2, '--workdir is required'),
    (['--name='], 2, '--name is required'),
    (['--workdir=no/such'], 2, 'config.json: missing'),
    (['--checkpoint=newest'], 2, 'best, latest or a step'),
    (['--checkpoint=77'], 1, 'no checkpoint 77'),
    (['--temperature=warm'], 2, '--temperature must be'),
    (['--name=../x'], 1, 'bad bundle name'),
    (['--representative=0'], 2, 'representative'),
    (['--data_dir=no/such'], 1, 'not prepared'),
    (['--nmae=x'], 2, "Unknown command line flag 'nmae'"),
    (['stray'], 2, "unexpected argument 'stray'"),
  ],
)
def test_bad_usage_is_one_line(
  export_flags, tmp_path, capsys, changes, code, message
):
  root = tmp_path / 'checkpoints'
  arguments = [*export_flags, '--name=t', f'--checkpoints={root}', *changes]
  assert export.run(arguments) == code
  lines = capsys.readouterr().err.strip().splitlines()
  assert lines[-1].startswith('experiments.export: ')
  assert message in lines[-1]
  assert not list(root.glob('*'))


def test_damaged_or_unfit_config(training, tmp_path, export_flags, capsys):
  config = json.loads((training / 'config.json').read_text())
  config['data']['train_split'] = 'test'
  (tmp_path / 'config.json').write_text(json.dumps(config))
  (tmp_path / 'checkpoints').symlink_to(training / 'checkpoints')
  flags = [*export_flags, '--name=t', f'--checkpoints={tmp_path / "c"}']
  assert export.run([*flags, f'--workdir={tmp_path}']) == 1
  assert "train_split 'test'" in capsys.readouterr().err
  (tmp_path / 'config.json').write_text('{"model": {}}')
  assert export.run([*flags, f'--workdir={tmp_path}']) == 1
  assert 'not the config of a training' in capsys.readouterr().err


def test_help(capsys):
  assert export.run(['--help']) == 0
  out = capsys.readouterr().out
  assert 'Examples:' in out
  assert '--checkpoint' in out


def test_runs_as_a_module():
  done = subprocess.run(
    [sys.executable, '-m', 'experiments.export'],
    capture_output=True,
    text=True,
  )
  assert done.returncode == 2
  assert done.stderr.strip().splitlines()[-1] == (
    'experiments.export: --workdir is required (see --help)'
  )
