"""``python -m ternac.cli``: the same as the command ``ternac``."""

import sys

from ternac.cli.main import main

sys.exit(main())
