"""Loading prepared sets: checks, messages, and no TensorFlow."""

from __future__ import annotations

import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

from fer_jax.data import arrays


@pytest.fixture
def root(prepared, tmp_path):
  """A copy of the prepared set that a test may damage."""
  shutil.copytree(prepared, tmp_path / 'data')
  return tmp_path / 'data'


def test_names():
  assert arrays.names() == ('fer2013', 'rendered_faces', 'rendered_scenes')


def test_load(prepared):
  data = arrays.load('rendered_faces', 'val', prepared)
  assert (data.name, data.split) == ('rendered_faces', 'val')
  assert data.label_set == 'rendered_faces'
  assert isinstance(data.images, np.memmap)
  assert data.images.shape == (21, 48, 48, 1)
  assert data.labels.dtype == np.int32
  assert len(data) == 21


def test_take(prepared):
  data = arrays.load('rendered_faces', 'val', prepared)
  part = data.take(data.labels == 3)
  assert set(part.labels) == {3}
  np.testing.assert_array_equal(
    part.images, data.images[np.flatnonzero(data.labels == 3)]
  )


def test_default_folder(prepared, monkeypatch):
  monkeypatch.setenv('FER_JAX_DATA', str(prepared))
  assert len(arrays.load('rendered_faces', 'test')) == 14
  monkeypatch.delenv('FER_JAX_DATA')
  assert arrays.data_dir_or_default(None) == pathlib.Path('data')
  assert arrays.data_dir_or_default('x') == pathlib.Path('x')


def test_unknown_set_and_split(prepared):
  with pytest.raises(ValueError, match='choose one of fer2013, rendered'):
    arrays.load('fer', 'train', prepared)
  with pytest.raises(ValueError, match='choose one of train, val, test'):
    arrays.load('rendered_faces', 'public_test', prepared)
  with pytest.raises(ValueError, match='choose one of fer2013, rendered'):
    arrays.prepare('fer', prepared)


def test_not_prepared_has_the_command(tmp_path):
  with pytest.raises(FileNotFoundError) as e:
    arrays.load('fer2013', 'train', tmp_path)
  assert f'--dataset=fer2013 --manual_dir=DIR --data_dir={tmp_path}' in str(
    e.value
  )


def test_other_format(root):
  path = root / 'rendered_faces' / 'metadata.json'
  info = json.loads(path.read_text())
  path.write_text(json.dumps({**info, 'format': 0}))
  with pytest.raises(arrays.DataError, match='format 0, this version reads 1'):
    arrays.load('rendered_faces', 'train', root)


@pytest.mark.parametrize('text', ['', '[]', '{}', '{"form'])
def test_torn_metadata(root, text):
  (root / 'rendered_faces' / 'metadata.json').write_text(text)
  with pytest.raises(arrays.DataError, match=r'cannot be read.*--overwrite'):
    arrays.load('rendered_faces', 'train', root)


def _cut(path):
  path.write_bytes(path.read_bytes()[:-100])


def _scramble(path):
  path.write_bytes(b'x' * path.stat().st_size)


def _other_type(path):
  array = np.load(path)
  np.save(path, array.view(np.int8))


@pytest.mark.parametrize(
  ('damage', 'problem'),
  [
    (pathlib.Path.unlink, 'is missing'),
    (_cut, 'bytes, its metadata says'),
    (_scramble, 'not a readable array'),
    (_other_type, 'holds int8'),
  ],
)
def test_damaged_array(root, damage, problem):
  damage(root / 'rendered_faces' / 'train' / 'images.npy')
  with pytest.raises(arrays.DataError, match=problem) as e:
    arrays.load('rendered_faces', 'train', root)
  assert 'images.npy' in str(e.value)
  assert '\n' not in str(e.value)
  # The other splits are not affected.
  assert len(arrays.load('rendered_faces', 'val', root)) == 21


def test_rejects_what_does_not_fit():
  images = np.zeros((3, 8, 8, 1), np.uint8)
  labels = np.zeros(3, np.int32)
  arrays.Arrays('x', 'y', 'fer2013', images, labels)
  with pytest.raises(arrays.DataError, match='uint8'):
    arrays.Arrays('x', 'y', 'fer2013', images.astype(np.float32), labels)
  with pytest.raises(arrays.DataError, match='uint8'):
    arrays.Arrays('x', 'y', 'fer2013', images[0], labels)
  with pytest.raises(arrays.DataError, match='labels has 2 rows, images 3'):
    arrays.Arrays('x', 'y', 'fer2013', images, labels[:2])
  with pytest.raises(arrays.DataError, match='votes has 1 rows'):
    arrays.Arrays(
      'x', 'y', 'fer2013', images, labels, {'votes': np.zeros((1, 10))}
    )
  with pytest.raises(arrays.DataError, match=r'0\.\.6, found 7\.\.7'):
    arrays.Arrays('x', 'y', 'fer2013', images, labels + 7)


def test_load_imports_neither_tensorflow_nor_jax(prepared):
  code = (
    'import sys\n'
    'from fer_jax.data import arrays, leakage, targets, prepare\n'
    'from fer_jax.data import rendered_faces\n'
    'data = arrays.load("rendered_faces", "train", sys.argv[1])\n'
    'assert len(data) == 80\n'
    'for name in ("tensorflow", "tensorflow_datasets", "jax"):\n'
    '  assert name not in sys.modules, name\n'
  )
  subprocess.run(
    [sys.executable, '-c', code, str(prepared)], check=True, timeout=120
  )
