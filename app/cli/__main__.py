"""``python -P -m app.cli``: the command line by module, as `volcal up` starts its parts."""

from app.cli import main

if __name__ == "__main__":
    main(prog_name="volcal")
