"""What does the product need, by the extras that are asked for? One requirement a line, for pip."""

import sys
import tomllib
from pathlib import Path

PROJECT = tomllib.loads(Path("pyproject.toml").read_text())["project"]

if __name__ == "__main__":
    wanted = [*PROJECT["dependencies"]]
    for extra in sys.argv[1:]:
        wanted += PROJECT["optional-dependencies"][extra]
    sys.stdout.write("\n".join(wanted) + "\n")
