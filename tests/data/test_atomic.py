"""A folder appears complete or not at all, whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from fer_jax.data.atomic import atomic_folder

_HANGS = """
import pathlib, sys, time
from fer_jax.data.atomic import atomic_folder
with atomic_folder(pathlib.Path(sys.argv[1])) as folder:
  (folder / 'half').write_text('half')
  print('ready', flush=True)
  time.sleep(600)
"""


def _files(folder):
  return sorted(p.name for p in folder.rglob('*'))


def test_appears_when_done(tmp_path):
  target = tmp_path / 'deep' / 'set'
  with atomic_folder(target) as folder:
    (folder / 'a').write_text('1')
    assert not target.exists()
  assert (target / 'a').read_text() == '1'
  assert [p.name for p in target.parent.iterdir()] == ['set']


def test_replaces_the_old_one(tmp_path):
  target = tmp_path / 'set'
  for content in ('old', 'new'):
    with atomic_folder(target) as folder:
      (folder / content).write_text(content)
  assert _files(tmp_path) == ['new', 'set']


@pytest.mark.parametrize('error', [ValueError, KeyboardInterrupt, OSError])
def test_error_leaves_the_old_one(tmp_path, error):
  target = tmp_path / 'set'
  with atomic_folder(target) as folder:
    (folder / 'old').write_text('old')

  def fails():
    with atomic_folder(target) as folder:
      (folder / 'half').write_text('half')
      raise error

  with pytest.raises(error):
    fails()
  assert _files(tmp_path) == ['old', 'set']


def test_sigkill_leaves_the_old_one_and_is_cleaned_up(tmp_path):
  target = tmp_path / 'set'
  with atomic_folder(target) as folder:
    (folder / 'old').write_text('old')
  process = subprocess.Popen(
    [sys.executable, '-c', _HANGS, str(target)], stdout=subprocess.PIPE
  )
  with process:
    assert process.stdout.readline().strip() == b'ready'
    # While the other one runs its folder is left alone.
    with atomic_folder(target) as folder:
      (folder / 'new').write_text('new')
    assert 'half' in _files(tmp_path)
    os.kill(process.pid, signal.SIGKILL)
  assert _files(target) == ['new']
  assert 'half' in _files(tmp_path)
  with atomic_folder(target) as folder:
    (folder / 'newer').write_text('newer')
  assert _files(tmp_path) == ['newer', 'set']
