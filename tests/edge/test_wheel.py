"""The device wheel: built, installed into an empty environment, and used."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import venv
import zipfile

import cv2
import pytest

import fer_jax

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / 'packaging' / 'edge' / 'build.py'
NAME = 'tiny_fer2013'
DIRECT = {'numpy', 'ai-edge-litert', 'opencv-python-headless'}
# What an installation may bring: our three and what they name themselves.
_CLOSURE = """
import importlib.metadata as m, json, re
def key(name):
  return re.sub('[-_.]+', '-', name).lower()
def needs(name):
  for text in m.requires(name) or ():
    if 'extra ==' not in text:
      yield key(re.match('[A-Za-z0-9_.-]+', text)[0])
installed = {key(d.metadata['Name']) for d in m.distributions()}
seen, todo = set(), ['fer-jax-edge']
while todo:
  name = todo.pop()
  if name not in seen and name in installed:
    seen.add(name)
    todo += needs(name)
print(json.dumps({
  'installed': sorted(installed),
  'closure': sorted(seen),
  'direct': sorted(needs('fer-jax-edge')),
}))
"""

pytestmark = pytest.mark.slow


def build(out, checkpoints):
  return subprocess.run(
    [sys.executable, str(BUILD), '--out', out, '--checkpoints', checkpoints],
    capture_output=True,
    text=True,
  )


@pytest.fixture(scope='module')
def wheel(released, tmp_path_factory):
  out = tmp_path_factory.mktemp('dist')
  done = build(out, released)
  assert done.returncode == 0, done.stderr
  (path,) = out.glob('*.whl')
  assert done.stdout.strip() == str(path)
  return path


@pytest.fixture(scope='module')
def environment(wheel, tmp_path_factory):
  """An empty environment with the wheel in it: its folder of commands."""
  folder = tmp_path_factory.mktemp('device')
  venv.create(folder, with_pip=True)
  pip = (str(folder / 'bin' / 'python'), '-m', 'pip', 'install', '--quiet')
  subprocess.run(
    [*pip, '--disable-pip-version-check', str(wheel)],
    check=True,
    capture_output=True,
  )
  return folder / 'bin'


def run(environment, tmp_path, *command):
  """Runs a command of the environment, away from this tree."""
  hidden = ('PYTHONPATH', 'FER_JAX_CHECKPOINTS', 'VIRTUAL_ENV')
  return subprocess.run(
    [str(environment / command[0]), *map(str, command[1:])],
    cwd=tmp_path,
    env={k: v for k, v in os.environ.items() if k not in hidden},
    capture_output=True,
    text=True,
  )


def test_contents(wheel):
  assert wheel.name.startswith(f'fer_jax_edge-{fer_jax.__version__}-py3-none-')
  with zipfile.ZipFile(wheel) as archive:
    names = [n for n in archive.namelist() if '.dist-info/' not in n]
    manifest = json.loads(archive.read('fer_jax/edge/_bundles/MANIFEST.json'))
  sources = {
    str(p.relative_to(ROOT))
    for p in (ROOT / 'fer_jax' / 'edge').rglob('*.py')
    if '_bundles' not in p.parts
  }
  sources |= {f'fer_jax/{n}.py' for n in ('__init__', 'labels', 'bundles')}
  bundled = {f'fer_jax/edge/_bundles/{key}' for key in manifest}
  assert set(names) == (
    sources | bundled | {'fer_jax/edge/_bundles/MANIFEST.json'}
  )
  assert sorted(k for k in manifest if k.startswith(NAME)) == [
    f'{NAME}/card.md',
    f'{NAME}/golden.npz',
    f'{NAME}/labels.txt',
    f'{NAME}/metrics.json',
    f'{NAME}/model.json',
    f'{NAME}/model_int8.tflite',
  ]


def test_installs_nothing_else(environment, tmp_path):
  done = run(environment, tmp_path, 'python', '-c', _CLOSURE)
  found = json.loads(done.stdout)
  assert set(found['direct']) == DIRECT
  extra = set(found['installed']) - set(found['closure'])
  assert extra <= {'pip', 'setuptools', 'wheel'}
  assert not {'jax', 'jaxlib', 'flax', 'tensorflow'} & set(found['installed'])


def test_selftest(environment, tmp_path):
  done = run(environment, tmp_path, 'fer-jax', 'selftest')
  assert (done.returncode, done.stderr) == (0, '')
  assert f'ok      {NAME}  files' in done.stdout
  assert f'ok      {NAME}  int8' in done.stdout
  assert 'float32' not in done.stdout


def test_recognises_a_photo(environment, tmp_path, photo):
  cv2.imwrite(str(tmp_path / 'photo.png'), photo[..., ::-1])
  done = run(
    environment,
    tmp_path,
    *('fer-jax', 'image', 'photo.png', '--json', '--output', 'marked'),
    *('--detector', 'full-frame', '--model', NAME),
  )
  assert (done.returncode, done.stderr) == (
    0,
    'fer-jax: wrote marked/photo_faces.png\n',
  )
  result = json.loads(done.stdout)
  assert (result['path'], result['width']) == ('photo.png', 512)
  assert len(result['faces']) == 1
  assert (tmp_path / 'marked' / 'photo_faces.png').is_file()


def test_refuses_to_build_without_models(tmp_path):
  (tmp_path / 'none').mkdir()
  done = build(tmp_path / 'dist', tmp_path / 'none')
  assert done.returncode == 1
  assert 'no bundle with an int8 model' in done.stderr
  assert not (tmp_path / 'dist').exists()


def test_refuses_a_damaged_bundle(own_checkpoints, tmp_path):
  (own_checkpoints / NAME / 'card.md').write_text('other')
  done = build(tmp_path / 'dist', own_checkpoints)
  assert done.returncode == 1
  assert 'card.md: SHA-256 differs' in done.stderr
