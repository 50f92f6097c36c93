"""`python -m openreserve.cli`, for where the command is not on the PATH."""

import sys

from openreserve.cli import main

sys.exit(main())
