"""The trainer through its public entry, and the faults it must survive."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from fer_jax.training import checkpoints
from fer_jax.training import trainer
from tests.training import tiny_config

_CONFIG = pathlib.Path(tiny_config.__file__)


def _config(prepared, **changes):
  config = tiny_config.get_config()
  with config.unlocked():
    config.data.data_dir = os.fspath(prepared)
    for key, value in changes.items():
      config.update_from_flattened_dict({key: value})
  return config


def _equal(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    np.testing.assert_array_equal(x, y)


@pytest.fixture(scope='module')
def unbroken(prepared, tmp_path_factory):
  """A finished training: (workdir, result, variables)."""
  workdir = tmp_path_factory.mktemp('unbroken')
  result = trainer.train(_config(prepared), workdir, show_progress=False)
  variables, _ = checkpoints.load_variables(workdir, 'latest')
  return workdir, result, variables


def test_it_learns_and_leaves_what_it_says(unbroken):
  workdir, result, variables = unbroken
  lines = [
    json.loads(line)
    for line in (workdir / 'metrics.jsonl').read_text().splitlines()
  ]
  assert [line['epoch'] for line in lines] == [1, 2, 3, 4]
  assert result['step'] == 4 * (80 // 16)
  assert lines[-1]['train_loss'] < lines[0]['train_loss']
  assert lines[-1]['rate'] < lines[0]['rate']
  config = json.loads((workdir / 'config.json').read_text())
  assert config['labels'][0] == 'angry'
  assert config['input_shape'] == [24, 24, 1]
  assert set(variables) == {'params', 'batch_stats'}
  best, info = checkpoints.load_variables(workdir, 'best')
  accuracies = {line['step']: line['validation_accuracy'] for line in lines}
  assert accuracies[info['step']] == max(accuracies.values())
  assert jax.tree.structure(best) == jax.tree.structure(variables)


def test_finished_training_is_left_alone(unbroken, prepared):
  workdir, result, variables = unbroken
  again = trainer.train(_config(prepared), workdir, show_progress=False)
  assert again['step'] == result['step']
  assert again['accuracy'] == result['accuracy']
  _equal(checkpoints.load_variables(workdir, 'latest')[0], variables)


def _launch(workdir, prepared, *extra):
  env = {
    **os.environ,
    'FER_JAX_DATA': os.fspath(prepared),
    'PYTHONPATH': os.getcwd(),
  }
  return subprocess.Popen(
    [
      sys.executable, '-m', 'experiments.train', f'--config={_CONFIG}',
      f'--workdir={workdir}', *extra,
    ],
    env=env,
    stderr=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
  )  # fmt: skip


def _wait_for_lines(workdir, count, process):
  path = workdir / 'metrics.jsonl'
  deadline = time.monotonic() + 240
  while time.monotonic() < deadline:
    if path.exists() and len(path.read_text().splitlines()) >= count:
      return
    if process.poll() is not None:
      break
    time.sleep(0.02)
  raise AssertionError(process.communicate())


@pytest.mark.slow
@pytest.mark.parametrize('after', [1, 3])
def test_killed_and_resumed_is_bit_identical(
  after, unbroken, prepared, tmp_path
):
  process = _launch(tmp_path, prepared)
  _wait_for_lines(tmp_path, after, process)
  process.kill()
  process.communicate()
  assert process.returncode == -signal.SIGKILL
  process = _launch(tmp_path, prepared)
  out, err = process.communicate(timeout=400)
  assert process.returncode == 0, err
  assert 'done: step 20' in out
  _equal(checkpoints.load_variables(tmp_path, 'latest')[0], unbroken[2])
  steps = [
    json.loads(line)['step']
    for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()
  ]
  assert steps == [5, 10, 15, 20]


@pytest.mark.slow
@pytest.mark.parametrize(
  ('number', 'code', 'text'),
  [
    (signal.SIGINT, 130, 'latest checkpoint is kept'),
    (signal.SIGTERM, 0, 'SIGTERM: saved step'),
  ],
)
def test_signals_keep_what_was_done(number, code, text, prepared, tmp_path):
  process = _launch(tmp_path, prepared, '--config.epochs=4000')
  _wait_for_lines(tmp_path, 2, process)
  process.send_signal(number)
  _, err = process.communicate(timeout=60)
  assert process.returncode == code, err
  assert text in err
  assert 'Traceback' not in err
  _, info = checkpoints.load_variables(tmp_path, 'latest')
  assert info['step'] >= 5


def test_torn_checkpoint_falls_back(unbroken, prepared, tmp_path, capsys):
  workdir = tmp_path / 'run'
  shutil.copytree(unbroken[0], workdir)
  newest = workdir / 'checkpoints' / '20' / 'state'
  torn = 0
  for file in newest.rglob('*'):
    if file.is_file() and file.stat().st_size > 100:
      file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
      torn += 1
  assert torn
  trainer.train(_config(prepared), workdir, show_progress=False)
  err = capsys.readouterr().err
  assert 'checkpoint 20' in err
  assert 'falling back' in err
  assert 'from step 15' in err
  assert (workdir / 'checkpoints' / '20.damaged').is_dir()
  _equal(checkpoints.load_variables(workdir, 'latest')[0], unbroken[2])


def test_nan_stops_the_run_and_names_the_step(prepared, tmp_path):
  config = _config(prepared, **{'schedule.rate': 1e30, 'ema_decay': 0.0})
  with pytest.raises(
    trainer.TrainingDivergedError, match=r'steps \d+ to \d+; last good'
  ):
    trainer.train(config, tmp_path, show_progress=False)


def test_full_disk_names_what_is_safe(prepared, tmp_path, monkeypatch):
  saved = []
  real = checkpoints.ocp.CheckpointManager.save

  def save(self, step, *args, **kwargs):
    if saved:
      raise OSError(28, 'No space left on device')
    saved.append(step)
    return real(self, step, *args, **kwargs)

  monkeypatch.setattr(checkpoints.ocp.CheckpointManager, 'save', save)
  with pytest.raises(
    checkpoints.CheckpointError, match=r'No space left.*step 5 is safe'
  ):
    trainer.train(_config(prepared), tmp_path, show_progress=False)
  monkeypatch.undo()
  result = trainer.train(_config(prepared), tmp_path, show_progress=False)
  assert result['step'] == 20


def test_another_network_in_the_workdir_is_refused(
  unbroken, prepared, tmp_path
):
  workdir = tmp_path / 'run'
  shutil.copytree(unbroken[0], workdir)
  config = _config(prepared)
  with config.unlocked():
    config.model.overrides.modules = (8, 16)
  with pytest.raises(checkpoints.CheckpointError, match='another network'):
    trainer.train(config, workdir, show_progress=False)


@pytest.mark.parametrize(
  ('changes', 'text'),
  [
    ({'batch_size': 100}, 'less than one batch of 100'),
    ({'data.soft_weight': 0.5}, 'needs FER\\+ votes'),
    ({'model.name': 'mini_exception'}, 'mini_xception'),
    ({'data.label_set': 'fer'}, 'choose one of'),
    ({'parallel': 'pjit'}, 'choose one of jit, pmap'),
    ({'data.train_split': 'training'}, 'no split'),
    ({'schedule.warmup_epochs': 9.0}, 'warm-up'),
  ],
)
def test_configs_that_do_not_fit(changes, text, prepared, tmp_path):
  with pytest.raises(ValueError, match=text):
    trainer.train(_config(prepared, **changes), tmp_path, show_progress=False)


@pytest.mark.slow
def test_mistyped_key_is_refused_with_a_suggestion(prepared, tmp_path):
  process = _launch(tmp_path, prepared, '--config.batchsize=3')
  _, err = process.communicate(timeout=120)
  assert process.returncode == 2
  assert err.splitlines()[-1].startswith('train: ')
  assert 'Did you mean "batch_size"' in err
  assert 'Traceback' not in err


def test_unprepared_data_says_how(tmp_path):
  with pytest.raises(FileNotFoundError, match=r'fer_jax\.data\.prepare'):
    trainer.train(_config(tmp_path), tmp_path / 'w', show_progress=False)


@pytest.mark.slow
def test_training_imports_no_tensorflow(prepared, tmp_path):
  code = (
    'import sys; from fer_jax.training import trainer; '
    'from tests.training import tiny_config; '
    'c = tiny_config.get_config(); c.epochs = 1.0; '
    f'trainer.train(c, {os.fspath(tmp_path)!r}, show_progress=False); '
    "assert 'tensorflow' not in sys.modules"
  )
  subprocess.run(
    [sys.executable, '-c', code],
    check=True,
    env={**os.environ, 'FER_JAX_DATA': os.fspath(prepared)},
    timeout=300,
  )


def test_evaluation_counts_every_row_once(prepared):
  data = trainer.load_split(_config(prepared).data, 'val')

  def fake(_, images, labels, mask):
    k = 7
    truth = np.eye(k)[labels] * mask[:, None]
    return {'loss': mask.sum(), 'confusion': truth.T @ np.eye(k)[labels]}

  result = trainer.evaluate(fake, None, data, 16)
  assert result['confusion'].sum() == len(data) == 21
  assert result['accuracy'] == 1
  assert result['loss'] == 1
