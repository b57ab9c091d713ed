"""`python -m keep_hf.cli` is `keep-hf`."""

import sys

from . import main


sys.exit(main())
