"""``python -m`` for ``kubesolo-config``, which an installation has as a program."""

from product.entry import config

if __name__ == "__main__":
    raise SystemExit(config())
