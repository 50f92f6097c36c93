"""`python -m openreserve_client.cli`, for when the command is not on the PATH."""

import sys

from openreserve_client.cli import main

sys.exit(main())
