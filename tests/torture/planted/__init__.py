"""Bugs for `make torture` to find: on PYTHONPATH this folder plants one of them."""
