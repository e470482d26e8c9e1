"""A stateful fuzzer for both protocols: shortly in memory with every run of the tests, long by hand.

``python -m tests.fuzz [--seconds N] [--seed N]`` is the long run, against a real server over real sockets (``run``);
``test_stateful`` is the short one. Both hold the server to the same ``ledger``, and speak the same ``speech``.
"""
