"""`python -m x2kit`."""

import sys

from x2kit.cli import main

sys.exit(main())
