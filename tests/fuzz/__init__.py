"""Random tests that run for as long as they are told: `python -m tests.fuzz --minutes 10`.

Each module is a target: `make_check(folder)` prepares it in an empty folder and returns a function
that runs one case, drawn from a random generator, and raises where something is wrong.
"""
