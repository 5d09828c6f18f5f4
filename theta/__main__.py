"""The user's commands: `theta`, or `python -m theta`."""

from theta.cli.errors import one_line, run


def main() -> None:
    """The entry point of `theta`."""
    with one_line():
        from theta.cli.main import app
    run(app)


if __name__ == "__main__":
    main()
