"""Where a recorded figure comes from: command, revision, date, versions."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import math
import os
import pathlib
import platform
import shlex
import subprocess
from collections.abc import Sequence
from typing import Any

__all__ = ['collect', 'command_line', 'dump', 'git_revision', 'versions']

_PACKAGES = (
  'jax',
  'flax',
  'numpy',
  'orbax-checkpoint',
  'ai-edge-litert',
  'tensorflow',
)


def git_revision(
  folder: str | os.PathLike[str] | None = None,
) -> dict[str, Any]:
  """Commit of the source tree and whether tracked files differ from it.

  Args:
    folder: inside the working tree; by default that of this package.

  Returns:
    {'revision': 40 hex digits or None outside a repository, 'dirty': bool or
    None}.
  """
  folder = pathlib.Path(folder or pathlib.Path(__file__).parent)

  def git(*arguments: str) -> str:
    return subprocess.run(
      ['git', '-C', os.fspath(folder), *arguments],
      capture_output=True,
      text=True,
      check=True,
      timeout=30,
    ).stdout.strip()

  try:
    revision = git('rev-parse', 'HEAD')
    dirty = bool(git('status', '--porcelain', '--untracked-files=no'))
  except (OSError, subprocess.SubprocessError):
    return {'revision': None, 'dirty': None}
  return {'revision': revision, 'dirty': dirty}


def versions() -> dict[str, str]:
  """Versions of Python and of the packages that shape a result."""
  found = {'python': platform.python_version()}
  for name in _PACKAGES:
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      continue
  return found


def command_line(module: str, arguments: Sequence[str]) -> str:
  """The command to repeat, without paths that only exist on one machine.

  Absolute paths below the current folder become relative; of others only the
  last part stays.
  """
  here = pathlib.Path.cwd()

  def shorten(text: str) -> str:
    flag, equals, value = text.partition('=')
    if not equals:
      flag, value = '', text
    parts = []
    for item in value.split(','):
      path = pathlib.Path(item)
      if path.is_absolute():
        inside = path.is_relative_to(here)
        item = os.fspath(path.relative_to(here)) if inside else path.name
      parts.append(item)
    return flag + equals + ','.join(parts)

  return shlex.join(['python', '-m', module, *map(shorten, arguments)])


def collect(module: str, arguments: Sequence[str]) -> dict[str, Any]:
  """Everything of this module, for a `metrics.json`."""
  now = datetime.datetime.now(datetime.UTC)
  return {
    'command': command_line(module, arguments),
    'git': git_revision(),
    'date': now.replace(microsecond=0).isoformat(),
    'versions': versions(),
    'machine': platform.machine(),
  }


def dump(data: Any) -> str:
  """Strict JSON text; NaN and infinities, which JSON has not, are refused.

  Raises:
    ValueError: a number is not finite; the message has the key.
  """
  _refuse(data, '')
  return json.dumps(data, indent=1, allow_nan=False, ensure_ascii=False) + '\n'


def _refuse(data: Any, where: str) -> None:
  if isinstance(data, dict):
    for key, value in data.items():
      _refuse(value, f'{where}/{key}')
  elif isinstance(data, (list, tuple)):
    for i, value in enumerate(data):
      _refuse(value, f'{where}/{i}')
  elif isinstance(data, float) and not math.isfinite(data):
    raise ValueError(f'{where or "/"} is {data}, which JSON cannot hold')
