"""What the README promises, run as written."""

from __future__ import annotations

import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

_ROOT = pathlib.Path(__file__).parents[1]
_TEXT = (_ROOT / 'README.md').read_text()


def _blocks(language: str) -> list[str]:
  fences = re.findall(r'^```(\w*)\n(.*?)^```$', _TEXT, re.DOTALL | re.MULTILINE)
  return [text for name, text in fences if name == language]


@pytest.fixture(scope='module')
def photo(tmp_path_factory):
  cv2 = pytest.importorskip('cv2')
  from skimage import data

  folder = tmp_path_factory.mktemp('photo')
  cv2.imwrite(os.fspath(folder / 'photo.jpg'), data.astronaut()[..., ::-1])
  (folder / 'holiday').mkdir()
  cv2.imwrite(os.fspath(folder / 'holiday/a.png'), data.astronaut()[..., ::-1])
  return folder


@pytest.mark.slow
@pytest.mark.parametrize('number', range(len(_blocks('python'))))
def test_python_blocks_run(number, photo):
  done = subprocess.run(
    [sys.executable, '-c', _blocks('python')[number]],
    cwd=photo,
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout.strip()


@pytest.mark.slow
def test_device_commands_run(photo):
  lines = [
    line.split('#')[0].strip()
    for block in _blocks('')
    for line in block.splitlines()
    if line.startswith('fer-jax ')
  ]
  assert len(lines) >= 3
  for line in lines:
    _, *arguments = shlex.split(line)
    done = subprocess.run(
      [sys.executable, '-m', 'fer_jax.edge', *arguments],
      cwd=photo,
      capture_output=True,
      text=True,
      timeout=300,
    )
    assert done.returncode == 0, (line, done.stderr)


def test_commands_and_files_exist():
  for module in re.findall(r'python -m (experiments\.\w+)', _TEXT):
    assert (_ROOT / (module.replace('.', '/') + '.py')).is_file(), module
  for path in re.findall(r'--config=(\S+)', _TEXT):
    assert (_ROOT / path).is_file(), path
  for path in re.findall(r'\]\(([\w/.]+)\)', _TEXT):
    assert (_ROOT / path).exists(), path
  for target in re.findall(r'make ([\w-]+)', _TEXT):
    assert re.search(
      rf'^{target}:', (_ROOT / 'Makefile').read_text(), re.MULTILINE
    ), target
