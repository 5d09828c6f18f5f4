"""The user's commands: `theta`, or `python -m theta`."""

from theta.cli.errors import one_line, run


def main() -> None:
    """Run the command that the arguments name: the entry point of `theta`."""
    with one_line():
        from theta.cli.main import app
    run(app)


if __name__ == "__main__":
    main()
