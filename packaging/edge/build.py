"""Builds the device wheel `fer-jax-edge`.

  python packaging/edge/build.py --out dist

It holds the edge room, what that imports, and of every released bundle the
int8 model with what describes and checks it. The files are staged in a
temporary folder, so that nothing else of the tree can get in.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import pathlib
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT))

from fer_jax import bundles  # noqa: E402

# Of a bundle; the float models and the Orbax weights stay behind.
BUNDLE_FILES = (
  'model_int8.tflite',
  'model.json',
  'labels.txt',
  'card.md',
  'metrics.json',
  'golden.npz',
)
# A detector has no golden pairs yet.
_OPTIONAL = frozenset({'golden.npz'})
_MODULES = ('__init__.py', 'labels.py', 'bundles.py')


def main() -> int:
  """Command line; returns the exit code."""
  parser = argparse.ArgumentParser(description='Build the device wheel.')
  parser.add_argument(
    '--out', type=pathlib.Path, default=pathlib.Path('dist'), metavar='DIR'
  )
  parser.add_argument(
    '--checkpoints',
    type=pathlib.Path,
    default=ROOT / 'checkpoints',
    metavar='DIR',
    help='released bundles (default %(default)s)',
  )
  arguments = parser.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    try:
      stage(pathlib.Path(folder), arguments.checkpoints)
      print(build(pathlib.Path(folder), arguments.out))
    except (bundles.BundleError, FileNotFoundError) as error:
      print(f'build: {error}', file=sys.stderr)
      return 1
    except subprocess.CalledProcessError as error:
      print(error.stdout, error.stderr, sep='\n', file=sys.stderr)
      print('build: the wheel could not be built', file=sys.stderr)
      return 1
  return 0


def stage(target: pathlib.Path, checkpoints: pathlib.Path) -> None:
  """Copies what goes into the wheel.

  Raises:
    BundleError: a bundle is damaged, or none has an int8 model.
    FileNotFoundError: a file that belongs to every bundle is missing.
  """
  package = target / 'fer_jax'
  package.mkdir()
  for name in _MODULES:
    shutil.copy(ROOT / 'fer_jax' / name, package / name)
  shutil.copytree(
    ROOT / 'fer_jax' / 'edge',
    package / 'edge',
    ignore=shutil.ignore_patterns('__pycache__', '_bundles', '.*'),
  )
  released = package / 'edge' / '_bundles'
  for source in sorted(checkpoints.glob(f'*/{bundles.METADATA}')):
    bundle = source.parent
    if not (bundle / BUNDLE_FILES[0]).is_file():
      print(f'build: {bundle.name} has no int8 model: left out')
      continue
    bundles.verify(bundle)
    (released / bundle.name).mkdir(parents=True)
    for name in BUNDLE_FILES:
      if name in _OPTIONAL and not (bundle / name).is_file():
        continue
      shutil.copy(bundle / name, released / bundle.name / name)
  if not released.is_dir():
    raise bundles.BundleError(
      f'{checkpoints}: no bundle with an int8 model; the wheel would be empty'
    )
  bundles.write_manifest(released)
  for name in ('pyproject.toml', 'README.md'):
    shutil.copy(HERE / name, target / name)
  if (ROOT / 'LICENSE').is_file():
    shutil.copy(ROOT / 'LICENSE', target / 'LICENSE')


def build(staged: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
  """Builds the staged tree; returns the wheel's path."""
  out.mkdir(parents=True, exist_ok=True)
  command = [sys.executable, '-m', 'build', '--wheel']
  # Isolation fetches setuptools from the index: only where ours is too old.
  if _setuptools() >= 77:
    command.append('--no-isolation')
  command += ['--outdir', str(staged / 'dist'), str(staged)]
  subprocess.run(command, check=True, capture_output=True, text=True)
  (wheel,) = (staged / 'dist').glob('*.whl')
  return pathlib.Path(shutil.copy(wheel, out / wheel.name))


def _setuptools() -> int:
  try:
    return int(importlib.metadata.version('setuptools').split('.')[0])
  except importlib.metadata.PackageNotFoundError:
    return 0


if __name__ == '__main__':
  sys.exit(main())
