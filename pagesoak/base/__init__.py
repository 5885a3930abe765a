"""Floor 0: what every other floor stands on and what knows nothing of them.

The shared segment, the robust lock, counters, the flight recorder, clocks, units, the scenario
schema and the types that are a contract between two floors.
"""
