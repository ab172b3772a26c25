"""Building, sharing and doing without the C++ kernels."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from fer_jax.ops import build

ROOT = Path(__file__).parents[2]
CHECK = textwrap.dedent(
  """
  import logging
  logging.basicConfig(level=logging.INFO, format='%(name)s %(message)s')
  import warnings
  warnings.simplefilter('error')
  import jax, numpy as np
  from fer_jax import ops
  x = np.ones((2, 6, 6, 8), np.float32)
  y = ops.depthwise_conv2d(x, np.ones((3, 3, 1, 8), np.float32))
  y = ops.max_pool(y, 3, 2)
  print(ops.current(), float(y.sum()))
  """
)


def _start(cache, **variables):
  return subprocess.Popen(
    [sys.executable, '-c', CHECK],
    cwd=ROOT,
    env=os.environ | {'FER_JAX_CACHE': str(cache)} | variables,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def test_without_a_compiler_one_line_says_so(tmp_path):
  process = _start(tmp_path, CXX='no-such-compiler')
  out, errors = process.communicate(timeout=500)
  assert process.returncode == 0, errors
  assert out.split() == ['shifted', f'{2 * 9 * 8 * 9.0}']
  lines = [line for line in errors.splitlines() if 'kernels' in line]
  assert len(lines) == 1
  assert 'no-such-compiler' in lines[0]


@pytest.mark.skipif(not build.available(), reason='no C++ compiler here')
def test_two_processes_build_one_library(tmp_path):
  processes = [_start(tmp_path) for _ in range(2)]
  for process in processes:
    out, errors = process.communicate(timeout=550)
    assert process.returncode == 0, errors
    assert out.split() == ['native', f'{2 * 9 * 8 * 9.0}']
  assert len(list(tmp_path.glob('*.so'))) == 1
  # Nothing half-made stays behind.
  assert {p.suffix for p in tmp_path.iterdir()} == {'.so', '.lock'}


def test_a_failed_compilation_is_an_oserror(monkeypatch, tmp_path):
  monkeypatch.setenv('FER_JAX_CACHE', str(tmp_path))
  monkeypatch.setattr(build, '_FLAGS', (*build._FLAGS, '--no-such-flag'))
  if not build.available():
    pytest.skip('no C++ compiler here')
  with pytest.raises(OSError, match='no-such-flag'):
    build.library()
  assert not list(tmp_path.glob('*.so'))


def test_cache_folder_follows_the_environment(monkeypatch, tmp_path):
  monkeypatch.setenv('FER_JAX_CACHE', str(tmp_path))
  assert build.cache_folder() == tmp_path
  monkeypatch.delenv('FER_JAX_CACHE')
  assert build.cache_folder() == Path.home() / '.cache' / 'fer_jax'


def test_available_logs_the_reason(monkeypatch, caplog):
  monkeypatch.setattr(build, 'register', lambda: 'a reason')
  build.available.cache_clear()
  try:
    with caplog.at_level(logging.INFO):
      assert not build.available()
      assert not build.available()
  finally:
    build.available.cache_clear()
  assert [r.message for r in caplog.records] == [
    'CPU kernels not built, using XLA instead: a reason'
  ]
