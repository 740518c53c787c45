"""``python -m pipeline.images JOB.json``: decode and run, in a process of its own."""

import sys
from pathlib import Path

from pipeline.images.child import main

if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
