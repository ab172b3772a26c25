"""What the commands of this folder share: flags, help, exit codes.

Each command has its own set of absl flags, so that one process (a test, a
notebook) can run several of them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from collections.abc import Sequence

from absl import flags

__all__ = ['UsageError', 'run']


class UsageError(ValueError):
  """The command was called wrongly: exit code 2."""


def run(
  command: Callable[[Sequence[str]], None],
  registered: flags.FlagValues,
  argv: Sequence[str] | None,
  *,
  name: str,
  doc: str,
) -> int:
  """Parses flags, runs a command and turns errors into one line.

  Args:
    command: the work; gets the arguments as they were given.
    registered: flags of the command.
    argv: arguments without the program's name; None takes those of the process.
    name: of the module, for messages.
    doc: shown by `--help`.

  Returns:
    0 done, 1 the work failed, 2 bad usage, 130 interrupted.
  """
  argv = list(sys.argv[1:] if argv is None else argv)
  if any(a in ('-h', '-help', '--help', '--helpfull') for a in argv):
    print(doc.strip(), registered.get_help(), sep='\n\n')
    return 0
  try:
    registered.unparse_flags()
    for flag in registered:
      registered[flag].unparse()
    rest = registered([name, *argv])[1:]
    if rest:
      raise UsageError(f'unexpected argument {rest[0]!r}')
    command(argv)
  except (UsageError, flags.Error) as error:
    return _fail(name, f'{error} (see --help)', 2)
  except KeyboardInterrupt:
    return _fail(name, 'interrupted; nothing half-done was left', 130)
  except (ValueError, OSError, ImportError) as error:
    return _fail(name, str(error) or type(error).__name__, 1)
  return 0


def _fail(name: str, text: str, code: int) -> int:
  print(f'{name}: {" ".join(text.split())}', file=sys.stderr)
  return code
