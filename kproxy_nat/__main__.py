"""``python -m kproxy_nat``: the same as the ``kproxy-nat`` command."""

from kproxy_nat.cli.main import main

if __name__ == "__main__":
    main()
