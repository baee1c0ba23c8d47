"""Command `python -m p2pchat`, the same as the installed command `p2pchat`."""

if __name__ == "__main__":
    from p2pchat.cli.main import main

    raise SystemExit(main())
