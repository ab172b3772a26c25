"""`python -m fer_jax.edge` is the command `fer-jax`."""

import sys

from fer_jax.edge.cli import main

if __name__ == '__main__':
  sys.exit(main())
