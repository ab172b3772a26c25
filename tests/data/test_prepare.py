"""From the files of a set through its TFDS builder to loaded arrays."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import subprocess
import sys
import time

import numpy as np
import pytest

from fer_jax.data import arrays
from fer_jax.data import prepare
from fer_jax.data.builders.fer2013 import csv_files
from tests.data import layouts

_SPLITS = dict(
  zip(layouts.USAGES, ('train', 'public_test', 'private_test'), strict=True)
)
_FEW = {'train': 28, 'val': 7, 'test': 7}


@pytest.fixture(scope='module')
def data():
  return layouts.fer2013((9, 4, 5), shuffled=True)


def _check(data, root, votes=True):
  for usage, split in _SPLITS.items():
    rows = np.flatnonzero(data.usages == usage)
    found = arrays.load('fer2013', split, root)
    assert found.label_set == 'fer2013'
    np.testing.assert_array_equal(found.images, data.images[rows])
    np.testing.assert_array_equal(found.labels, data.labels[rows])
    np.testing.assert_array_equal(found.attributes['row'], rows + 1)
    if votes:
      np.testing.assert_array_equal(found.attributes['votes'], data.votes[rows])
    else:
      assert 'votes' not in found.attributes


@pytest.mark.parametrize(('xz', 'votes'), [(True, True), (False, False)])
def test_fer2013(tmp_path, data, xz, votes):
  layouts.write_fer2013(tmp_path / 'manual', data, xz=xz, votes=votes)
  target = arrays.prepare(
    'fer2013', tmp_path / 'data', tmp_path / 'manual', verify_md5=False
  )
  assert target == tmp_path / 'data' / 'fer2013'
  _check(data, tmp_path / 'data', votes)
  info = json.loads((target / 'metadata.json').read_text())
  assert info['format'] == arrays.FORMAT
  assert info['labels'][0] == 'angry'
  assert not list((tmp_path / 'data').glob('.*'))


def test_fer2013_altered_file_is_read_again(tmp_path, data):
  other = layouts.fer2013((6, 2, 2), seed=1)
  for content in (data, other):
    layouts.write_fer2013(tmp_path / 'manual', content)
    arrays.prepare(
      'fer2013', tmp_path / 'data', tmp_path / 'manual', verify_md5=False
    )
    _check(content, tmp_path / 'data')


def test_fer2013_with_the_right_md5_is_kept(tmp_path, data, monkeypatch):
  layouts.write_fer2013(tmp_path / 'manual', data)
  path = tmp_path / 'manual' / 'fer2013.csv'
  monkeypatch.setattr(
    csv_files, 'MD5', hashlib.md5(path.read_bytes()).hexdigest()
  )
  folder = tmp_path / 'data'
  target = arrays.prepare('fer2013', folder, tmp_path / 'manual')
  before = (target / 'metadata.json').stat().st_ino
  arrays.prepare('fer2013', folder, tmp_path / 'manual')
  assert (target / 'metadata.json').stat().st_ino == before
  # A damaged array is noticed and packed again.
  (target / 'train' / 'images.npy').write_bytes(b'')
  arrays.prepare('fer2013', folder, tmp_path / 'manual')
  _check(data, folder)
  arrays.prepare('fer2013', folder, tmp_path / 'manual', overwrite=True)
  assert (target / 'metadata.json').stat().st_ino != before


def test_fer2013_bad_csv_leaves_the_old_set(tmp_path, data):
  manual = tmp_path / 'manual'
  layouts.write_fer2013(manual, data)
  arrays.prepare('fer2013', tmp_path / 'data', manual, verify_md5=False)
  lines = layouts.csv_lines(data)
  layouts.write_lines(manual / 'fer2013.csv', [*lines[:7], lines[7][:100]])
  with pytest.raises(arrays.DataError, match='row 7: 2 fields') as e:
    arrays.prepare('fer2013', tmp_path / 'data', manual, verify_md5=False)
  assert '\n' not in str(e.value)
  _check(data, tmp_path / 'data')


def test_missing_csv_names_md5_and_source(tmp_path):
  for manual in (None, tmp_path, tmp_path / 'nowhere'):
    with pytest.raises(FileNotFoundError) as e:
      arrays.prepare('fer2013', tmp_path / 'data', manual)
    assert csv_files.MD5 in str(e.value)
    assert 'Kaggle' in str(e.value)
    assert '\n' not in str(e.value)


def test_unknown_option(tmp_path):
  with pytest.raises(ValueError, match="no option 'colour'; choose from"):
    arrays.prepare('rendered_faces', tmp_path, colour=True)
  with pytest.raises(ValueError, match="no option 'verify'"):
    arrays.prepare('fer2013', tmp_path, tmp_path, verify=False)


def test_rendered_faces(tmp_path):
  arrays.prepare('rendered_faces', tmp_path, per_identity=7, size=32, **_FEW)
  people = []
  for split, count in _FEW.items():
    data = arrays.load('rendered_faces', split, tmp_path)
    assert data.images.shape == (count, 32, 32, 1)
    assert np.bincount(data.labels).tolist() == [count // 7] * 7
    assert np.asarray(data.images).std() > 10
    people.append(set(data.attributes['identity'].tolist()))
    intensity = data.attributes['intensity']
    assert ((intensity >= 0.65) & (intensity <= 1)).all()
  assert [len(p) for p in people] == [4, 1, 1]
  assert not people[0] & people[1]
  assert not people[0] & people[2]
  assert not people[1] & people[2]


def test_rendered_faces_same_seed_same_bytes_other_options_new_set(tmp_path):
  for root in ('a', 'b'):
    arrays.prepare('rendered_faces', tmp_path / root, size=16, **_FEW)
  a, b = (
    np.array(arrays.load('rendered_faces', 'train', tmp_path / r).images)
    for r in ('a', 'b')
  )
  np.testing.assert_array_equal(a, b)
  arrays.prepare(
    'rendered_faces', tmp_path / 'b', size=16, seed=1, channels=3, **_FEW
  )
  c = arrays.load('rendered_faces', 'train', tmp_path / 'b').images
  assert c.shape == (28, 16, 16, 3)
  assert (c[..., :1] != a).any()


def test_rendered_scenes(tmp_path):
  arrays.prepare('rendered_scenes', tmp_path, size=96, **_FEW)
  data = arrays.load('rendered_scenes', 'train', tmp_path)
  assert data.images.shape == (28, 72, 96, 3)
  boxes = data.attributes['boxes']
  real = boxes[..., 2] > 0
  assert (real.sum(axis=1) == data.attributes['num_faces']).all()
  assert real.any()
  assert not real.all()
  assert (boxes[real] >= 0).all()
  assert (boxes[real] <= (96.01, 72.01, 96.01, 72.01)).all()
  assert (boxes[real][:, 2:] - boxes[real][:, :2] > 3).all()
  assert (data.attributes['box_labels'][~real] == -1).all()
  assert (data.attributes['box_labels'][real] >= 0).all()


def test_command(tmp_path, capsys):
  flags = [f'--{k}={v}' for k, v in _FEW.items()]
  argv = ['prepare', '--dataset=rendered_faces', '--size=16', *flags]
  assert prepare.main([*argv, f'--data_dir={tmp_path}']) == 0
  out, err = capsys.readouterr()
  assert out.startswith(
    f'{tmp_path}/rendered_faces: train 28, val 7, test 7 images of 16x16x1'
  )
  assert out.count('\n') == 1
  assert '42/42' in err  # the progress bar


def test_command_data_that_fails(tmp_path, data, capsys):
  layouts.write_fer2013(tmp_path / 'manual', data)
  argv = ['prepare', '--dataset=fer2013', f'--data_dir={tmp_path / "data"}']
  assert prepare.main([*argv, f'--manual_dir={tmp_path}']) == 1
  err = capsys.readouterr().err
  assert csv_files.MD5 in err
  assert err.count('\n') == 1
  argv.append(f'--manual_dir={tmp_path / "manual"}')
  assert prepare.main(argv) == 1
  err = capsys.readouterr().err.splitlines()[-1]
  assert csv_files.MD5 in err
  assert '--noverify' in err
  assert not (tmp_path / 'data' / 'fer2013').exists()
  assert prepare.main([*argv, '--noverify']) == 0
  _check(data, tmp_path / 'data')


@pytest.mark.parametrize(
  ('argv', 'problem'),
  [
    ([], '--dataset is missing; choose one of fer2013'),
    (['--dataset=x'], 'fer2013|rendered_faces|rendered_scenes'),
    (['--datset=fer2013'], 'Did you mean: dataset'),
    (['--dataset=fer2013'], 'needs --manual_dir'),
    (['--dataset=fer2013', '--manual_dir=x', '--size=3'], '--size is for'),
    (['fer2013'], "'fer2013' is not a flag"),
    (['--dataset=rendered_faces', '--train=0'], 'train must be 1 or more'),
    (['--dataset=rendered_faces', '--size=9000'], 'size must be at most'),
    (['--dataset=rendered_faces', '--channels=2'], 'channels must be 1 or 3'),
    (['--dataset=rendered_faces', '--train=many'], 'train'),
  ],
)
def test_command_bad_usage(argv, problem, capsys, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert prepare.main(['prepare', *argv]) == 2
  out, err = capsys.readouterr()
  assert out == ''
  assert err.startswith('prepare: ')
  assert problem in err
  assert err.count('\n') == 1
  assert not list(tmp_path.rglob('*.npy'))


def test_command_help(capsys):
  assert prepare.main(['prepare', '--help']) == 0
  out = capsys.readouterr().out
  assert 'python -m fer_jax.data.prepare --dataset=fer2013' in out
  assert '--[no]verify' in out


@pytest.mark.slow
def test_command_stderr_has_nothing_but_the_error(tmp_path):
  run = subprocess.run(
    [
      sys.executable, '-m', 'fer_jax.data.prepare', '--dataset=fer2013',
      f'--data_dir={tmp_path}', f'--manual_dir={tmp_path}',
    ],
    capture_output=True,
    text=True,
    timeout=240,
  )  # fmt: skip
  assert run.returncode == 1
  assert run.stdout == ''
  assert run.stderr.startswith('prepare: no csv in ')
  assert run.stderr.count('\n') == 1


@pytest.mark.slow
def test_killed_command_leaves_nothing_half_done(tmp_path):
  command = [
    sys.executable, '-m', 'fer_jax.data.prepare', '--dataset=rendered_faces',
    f'--data_dir={tmp_path}', '--size=16',
  ]  # fmt: skip
  with subprocess.Popen(
    [*command, '--train=100000'], stderr=subprocess.DEVNULL
  ) as process:
    try:
      deadline = time.monotonic() + 240
      # Where TFDS writes until it is done.
      while not list((tmp_path / 'tfds').rglob('incomplete.*')):
        assert process.poll() is None, 'ended before it could be killed'
        assert time.monotonic() < deadline, 'wrote nothing'
        time.sleep(0.1)
    finally:
      process.kill()
  with pytest.raises(FileNotFoundError, match='is not prepared'):
    arrays.load('rendered_faces', 'train', tmp_path)
  arrays.prepare('rendered_faces', tmp_path, size=16, **_FEW)
  assert len(arrays.load('rendered_faces', 'train', tmp_path)) == 28


def test_real_fer2013():
  folder = pathlib.Path(os.environ.get('FER_JAX_DATA') or 'data')
  try:
    parts = {s: arrays.load('fer2013', s, folder) for s in _SPLITS.values()}
  except FileNotFoundError as e:
    pytest.skip(str(e))
  # angry disgust fear happy sad surprise neutral
  expected = {
    'train': [3995, 436, 4097, 7215, 4830, 3171, 4965],
    'public_test': [467, 56, 496, 895, 653, 415, 607],
    'private_test': [491, 55, 528, 879, 594, 416, 626],
  }
  for split, counts in expected.items():
    assert np.bincount(parts[split].labels).tolist() == counts
  rows = np.concatenate([p.attributes['row'] for p in parts.values()])
  np.testing.assert_array_equal(rows, np.arange(1, 35888))
