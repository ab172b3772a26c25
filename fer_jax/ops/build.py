"""Builds the C++ kernels of `ops/native` on first use and loads them.

The library lies in `$FER_JAX_CACHE`, by default `~/.cache/fer_jax`, under a name
that is a hash of the sources, the compiler, its flags and the processor, so a
change of any makes a new file. Several processes may build at once: one
compiles, the others wait for its lock, and the finished library appears by an
atomic rename.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax

__all__ = ['available', 'cache_folder', 'library', 'register']

_SOURCES = Path(__file__).parent / 'native'
_FLAGS = (
  '-std=gnu++17',
  '-O3',
  '-march=native',
  '-fno-math-errno',
  '-fno-trapping-math',
  '-fPIC',
  '-DNDEBUG',
  '-w',
)
_TIMEOUT_SECONDS = 600
# Symbols of the library, which are also the names of the custom calls.
TARGETS = (
  'fer_jax_batch_norm',
  'fer_jax_batch_norm_gradient',
  'fer_jax_conv',
  'fer_jax_conv_input_gradient',
  'fer_jax_conv_kernel_gradient',
  'fer_jax_depthwise',
  'fer_jax_depthwise_gradient',
  'fer_jax_max_pool',
  'fer_jax_max_pool_gradient',
  'fer_jax_max_pool_index',
  'fer_jax_pointwise',
  'fer_jax_pointwise_gradient',
)

_log = logging.getLogger(__name__)


def cache_folder() -> Path:
  """Where built libraries are kept."""
  given = os.environ.get('FER_JAX_CACHE')
  return Path(given) if given else Path.home() / '.cache' / 'fer_jax'


def library() -> Path:
  """Path of the built library, building it if need be.

  Raises:
    OSError: no compiler, a failed compilation, or no place to write.
  """
  compiler = shutil.which(os.environ.get('CXX') or 'g++')
  if compiler is None:
    raise OSError(f'no C++ compiler ({os.environ.get("CXX") or "g++"})')
  sources = sorted(_SOURCES.glob('*.cc'))
  version = _run([compiler, '--version']).splitlines()[0]
  parts = [version, *_FLAGS, jax.__version__, platform.machine(), _processor()]
  digest = hashlib.sha256('\n'.join(parts).encode())
  for path in [*sources, *sorted(_SOURCES.glob('*.h'))]:
    digest.update(path.name.encode() + path.read_bytes())
  folder = cache_folder()
  target = folder / f'kernels-{digest.hexdigest()[:20]}.so'
  if not target.exists():
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(target.with_suffix('.lock')):
      if not target.exists():  # else another process built it meanwhile
        _compile(compiler, sources, target)
  return target


def _compile(compiler: str, sources: list[Path], target: Path) -> None:
  with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
    include = ['-isystem', jax.ffi.include_dir()]
    objects = [Path(temporary) / f'{path.stem}.o' for path in sources]
    running = [
      subprocess.Popen(
        [compiler, *_FLAGS, *include, '-c', str(path), '-o', str(made)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
      )
      for path, made in zip(sources, objects, strict=True)
    ]
    failures = []
    for process, path in zip(running, sources, strict=True):
      _, errors = process.communicate(timeout=_TIMEOUT_SECONDS)
      if process.returncode:
        lines = [line for line in errors.splitlines() if 'error' in line]
        failures.append((lines or errors.splitlines() or [path.name])[0])
    if failures:
      raise OSError(f'{compiler}: {failures[0]}')
    made = Path(temporary) / target.name
    _run([compiler, '-shared', *map(str, objects), '-o', str(made)])
    made.replace(target)


def _run(command: list[str]) -> str:
  done = subprocess.run(
    command,
    capture_output=True,
    text=True,
    timeout=_TIMEOUT_SECONDS,
    check=False,
  )
  if done.returncode:
    lines = done.stderr.splitlines() or ['failed']
    raise OSError(f'{command[0]}: {lines[0]}')
  return done.stdout


def _processor() -> str:
  """What `-march=native` depends on."""
  try:
    lines = Path('/proc/cpuinfo').read_text().splitlines()
  except OSError:
    return platform.processor()
  keys = ('model name', 'flags', 'Features', 'CPU part')
  return '\n'.join(sorted({x for x in lines if x.startswith(keys)}))


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
  import fcntl  # not on every platform; where it lacks, so do the kernels

  with path.open('w') as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
      yield
    finally:
      fcntl.flock(file, fcntl.LOCK_UN)


@functools.cache
def register() -> str:
  """Loads the library and registers its kernels; '' or why that failed."""
  try:
    loaded = ctypes.CDLL(str(library()))
    for name in TARGETS:
      jax.ffi.register_ffi_target(
        name, jax.ffi.pycapsule(getattr(loaded, name)), platform='cpu'
      )
  except (
    AttributeError,
    ImportError,
    OSError,
    subprocess.TimeoutExpired,
  ) as error:
    return str(error)
  return ''


@functools.cache
def available() -> bool:
  """Whether the kernels can be used here; logs one line if not."""
  reason = register()
  if reason:
    _log.info('CPU kernels not built, using XLA instead: %s', reason)
  return not reason
