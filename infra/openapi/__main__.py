"""Write the OpenAPI document to standard output: `make openapi`."""

import json
import sys

from infra.openapi import document

json.dump(document(), sys.stdout, indent=2)
sys.stdout.write("\n")
