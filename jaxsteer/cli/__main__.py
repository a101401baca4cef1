"""``python -m jaxsteer.cli``."""

from jaxsteer.cli import main

if __name__ == "__main__":
    main()
