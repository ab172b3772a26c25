"""Tests of fer_jax.bundles."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from fer_jax import bundles

METADATA = {
  'format': 1,
  'model': 'mini_xception',
  'label_set': 'fer2013',
  'labels': ['a', 'b'],
  'input_shape': [48, 48, 1],
  'kind': 'classifier',
}


@pytest.fixture
def root(tmp_path, monkeypatch):
  for name in ('one', 'two'):
    folder = tmp_path / name
    (folder / 'params' / 'deep').mkdir(parents=True)
    (folder / 'model.json').write_text(json.dumps(METADATA))
    (folder / 'params' / 'deep' / 'weights').write_bytes(name.encode())
  bundles.write_manifest(tmp_path)
  monkeypatch.setenv('FER_JAX_CHECKPOINTS', str(tmp_path))
  return tmp_path


def test_manifest_lists_every_file_of_every_bundle(root):
  listed = json.loads((root / 'MANIFEST.json').read_text())
  assert sorted(listed) == [
    'one/model.json',
    'one/params/deep/weights',
    'two/model.json',
    'two/params/deep/weights',
  ]
  # sha256sum of the three bytes 'one'.
  assert listed['one/params/deep/weights'] == (
    '7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed'
  )
  assert sorted(p.name for p in root.iterdir()) == [
    'MANIFEST.json',
    'one',
    'two',
  ]


def test_names_and_find(root, monkeypatch):
  assert {'one', 'two'} <= set(bundles.names())
  assert bundles.find('two') == root / 'two'
  assert bundles.find(root / 'one') == root / 'one'
  monkeypatch.chdir(root)
  assert bundles.find('./one').resolve() == root / 'one'


def test_environment_comes_first(root):
  assert bundles.roots()[0] == root
  assert bundles.roots()[1].name == 'checkpoints'
  assert bundles.roots()[2].parts[-2:] == ('edge', '_bundles')


@pytest.mark.parametrize('name', ['three', '', '.', '..', './three', '/'])
def test_unknown_bundle_names_the_choices(root, name):
  with pytest.raises(bundles.UnknownBundleError, match='one, two'):
    bundles.find(name)


def test_verify_accepts_an_untouched_bundle(root):
  bundles.verify(root / 'one')
  (root / 'one' / '.DS_Store').write_bytes(b'a file manager was here')
  bundles.verify(root / 'one')


@pytest.mark.parametrize('damage', ['changed', 'missing', 'added'])
def test_verify_names_the_file(root, damage):
  file = root / 'one' / 'params' / 'deep' / 'weights'
  if damage == 'changed':
    file.write_bytes(b'onf')
  elif damage == 'missing':
    file.unlink()
  else:
    file = root / 'one' / 'extra'
    file.write_bytes(b'')
  with pytest.raises(bundles.BundleError) as caught:
    bundles.verify(root / 'one')
  assert str(file) in str(caught.value)
  assert '\n' not in str(caught.value)
  bundles.verify(root / 'two')
  # Who needs one file only is not stopped by another.
  bundles.verify(root / 'one', ['model.json'])


def test_verify_needs_the_manifest(root):
  (root / 'MANIFEST.json').unlink()
  with pytest.raises(bundles.BundleError, match='MANIFEST'):
    bundles.verify(root / 'one')
  for text in ('[]', '{"a": 1}', '{'):
    (root / 'MANIFEST.json').write_text(text)
    with pytest.raises(bundles.BundleError, match=r'MANIFEST\.json'):
      bundles.verify(root / 'one')


def test_metadata(root):
  assert bundles.metadata(root / 'one') == METADATA


@pytest.mark.parametrize(
  ('text', 'reason'),
  [
    ('{', 'cannot be read'),
    ('[]', 'format is not 1'),
    ('{"format": 2}', 'format is not 1'),
    ('{"format": 1, "model": "m", "kind": "c"}', 'lacks labels, input_shape'),
  ],
)
def test_bad_metadata(root, text, reason):
  (root / 'one' / 'model.json').write_text(text)
  with pytest.raises(bundles.BundleError, match=reason) as caught:
    bundles.metadata(root / 'one')
  assert 'model.json' in str(caught.value)


def test_imports_the_standard_library_only():
  code = (
    'import sys, fer_jax.bundles\n'
    'assert not {"numpy", "cv2", "jax", "tensorflow"} & set(sys.modules)'
  )
  subprocess.run([sys.executable, '-c', code], check=True)
