"""Released bundles: where they lie, what they hold, and whether they are whole.

A bundle is a folder with a trained network in the forms its users need
(`params/`, `model*.tflite`, `labels.txt`, `model.json`, ...). Beside the
bundles lies one `MANIFEST.json` with the SHA-256 of every file of all of them.

Nothing but the standard library is imported here: the device runtime uses this
module too.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
from collections.abc import Iterable
from typing import Any

__all__ = [
  'BundleError',
  'UnknownBundleError',
  'find',
  'metadata',
  'names',
  'roots',
  'sha256',
  'verify',
  'write_manifest',
]

MANIFEST = 'MANIFEST.json'
METADATA = 'model.json'
FORMAT = 1
# Keys without which no caller can use a bundle.
_REQUIRED = ('model', 'labels', 'input_shape', 'kind')


class BundleError(ValueError):
  """A bundle is missing, damaged or not what its files say it is."""


class UnknownBundleError(BundleError):
  """Nothing of that name or at that path is a bundle."""


def roots() -> list[pathlib.Path]:
  """Folders searched for bundles, first hit wins.

  `$FER_JAX_CHECKPOINTS` if set, `checkpoints/` beside the package (a clone of
  the repository), and the folder inside the device wheel.
  """
  package = pathlib.Path(__file__).resolve().parent
  found = []
  if os.environ.get('FER_JAX_CHECKPOINTS'):
    found.append(pathlib.Path(os.environ['FER_JAX_CHECKPOINTS']))
  found.append(package.parent / 'checkpoints')
  found.append(package / 'edge' / '_bundles')
  return found


def names() -> list[str]:
  """Names of the bundles found in `roots()`, sorted, each once."""
  found = set()
  for root in roots():
    if root.is_dir():
      found.update(p.parent.name for p in root.glob(f'*/{METADATA}'))
  return sorted(found)


def find(name_or_path: str | os.PathLike[str]) -> pathlib.Path:
  """Folder of a bundle, given its name or a path to it.

  A bare name is looked up in `roots()`; anything with a path separator is
  taken as a path.

  Raises:
    UnknownBundleError: there is no such bundle; the message lists the names there are.
  """
  text = os.fspath(name_or_path)
  if os.sep in text or (os.altsep and os.altsep in text):
    path = pathlib.Path(text)
    if (path / METADATA).is_file():
      return path
    raise UnknownBundleError(
      f'{text}: not a bundle (no {METADATA} in it); give a bundle folder or '
      f'one of the names: {_choices()}'
    )
  if text and text not in ('.', '..'):
    for root in roots():
      if (root / text / METADATA).is_file():
        return root / text
  raise UnknownBundleError(
    f'unknown model {text!r}; choose one of: {_choices()}'
  )


def _choices() -> str:
  return ', '.join(names()) or (
    'none found; set FER_JAX_CHECKPOINTS to a folder of bundles'
  )


def sha256(path: str | os.PathLike[str]) -> str:
  """Hexadecimal SHA-256 of a file, read in pieces."""
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def _files(bundle: pathlib.Path) -> list[pathlib.Path]:
  return sorted(p for p in bundle.rglob('*') if p.is_file())


def _key(bundle: pathlib.Path, file: pathlib.Path) -> str:
  return f'{bundle.name}/{file.relative_to(bundle).as_posix()}'


def verify(
  path: str | os.PathLike[str], files: Iterable[str] | None = None
) -> None:
  """Checks the files of a bundle against the manifest beside it.

  Args:
    path: the bundle's folder; `MANIFEST.json` lies in the folder above it.
    files: check these only, as paths inside the bundle. By default every file
      in the folder is checked, and every file of the manifest must be there.

  Raises:
    BundleError: a file is missing, not listed, or not the one released; the
      message names it.
  """
  bundle = pathlib.Path(path).resolve()
  listed = _read_manifest(bundle.parent)
  prefix = f'{bundle.name}/'
  if files is None:
    wanted = {key for key in listed if key.startswith(prefix)}
    wanted |= {
      _key(bundle, file)
      for file in _files(bundle)
      # What a file manager leaves behind (.DS_Store) is no part of a release.
      if not file.name.startswith('.')
    }
  else:
    wanted = {prefix + file for file in files}
  if not wanted:
    raise BundleError(f'{bundle}: the bundle is empty; fetch it again')
  for key in sorted(wanted):
    file = bundle.parent / key
    if not file.is_file():
      raise BundleError(f'{file}: missing from the bundle; fetch it again')
    if key not in listed:
      raise BundleError(
        f'{file}: not listed in {bundle.parent / MANIFEST}; remove the file or '
        'write the manifest anew'
      )
    if sha256(file) != listed[key]:
      raise BundleError(
        f'{file}: SHA-256 differs from {MANIFEST}: the file is damaged or was '
        'changed; fetch it again'
      )


def _read_manifest(root: pathlib.Path) -> dict[str, str]:
  file = root / MANIFEST
  try:
    listed = json.loads(file.read_text(encoding='utf-8'))
  except FileNotFoundError:
    raise BundleError(
      f'{file}: missing; the bundles beside it cannot be verified'
    ) from None
  except (OSError, ValueError) as error:
    raise BundleError(f'{file}: cannot be read: {error}') from None
  if not isinstance(listed, dict) or not all(
    isinstance(value, str) for value in listed.values()
  ):
    raise BundleError(f'{file}: not a map from file to SHA-256')
  return listed


def metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
  """Contents of a bundle's `model.json`.

  Raises:
    BundleError: it is missing, no JSON, of another format, or lacks a key.
  """
  file = pathlib.Path(path) / METADATA
  try:
    data = json.loads(file.read_text(encoding='utf-8'))
  except FileNotFoundError:
    raise BundleError(f'{file}: missing; not a bundle') from None
  except (OSError, ValueError) as error:
    raise BundleError(f'{file}: cannot be read: {error}') from None
  if not isinstance(data, dict) or data.get('format') != FORMAT:
    raise BundleError(f'{file}: format is not {FORMAT}; use a newer fer_jax')
  missing = [key for key in _REQUIRED if key not in data]
  if missing:
    raise BundleError(f'{file}: lacks {", ".join(missing)}')
  return data


def write_manifest(root: str | os.PathLike[str]) -> pathlib.Path:
  """Writes `root/MANIFEST.json` over every file of every bundle in `root`.

  The manifest is replaced in one step, so a reader never sees half of it.

  Returns:
    The manifest's path.
  """
  root = pathlib.Path(root)
  hashes = {
    _key(file.parent, item): sha256(item)
    for file in sorted(root.glob(f'*/{METADATA}'))
    for item in _files(file.parent)
    if not item.name.startswith('.')
  }
  target = root / MANIFEST
  temporary = root / f'.{MANIFEST}.{os.getpid()}'
  temporary.write_text(
    json.dumps(hashes, indent=1, sort_keys=True) + '\n', encoding='utf-8'
  )
  os.replace(temporary, target)
  return target
