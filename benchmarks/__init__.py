"""What the cache costs and saves, as ratios: `make bench`, or `python -m benchmarks --quick`.

Every ratio has both sides measured in the same run, turn by turn. Targets are those of the design;
one that is missed by more than the measured noise makes the run fail.
"""
