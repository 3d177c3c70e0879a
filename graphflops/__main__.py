"""``python -m graphflops``"""

import sys

from graphflops.cli import main

sys.exit(main())
