"""A wall clock that a test can set: on PYTHONPATH this folder gives Python another one."""
