"""On maps as small as these, threads cost fifty times what they compute."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
