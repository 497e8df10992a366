"""``python -m cloister`` is the command line."""

import sys

from cloister.cli import main

sys.exit(main())
