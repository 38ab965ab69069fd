"""Prints what Locust measured in each step of a ramp: python steps.py USERS:SECONDS,… load_stats_history.csv

The history has a line for all requests each second, with percentiles over the last ten seconds; of a step its second half counts.
"""

import csv
import statistics
import sys

steps = [tuple(map(int, s.split(":"))) for s in sys.argv[1].split(",")]
with open(sys.argv[2], newline="") as f:
    rows = [r for r in csv.DictReader(f) if r["Name"] == "Aggregated"]
start = int(rows[0]["Timestamp"])
number = lambda r, key: float(r[key]) if r[key] not in ("", "N/A") else 0.0  # noqa: E731

print("| users | requests/s | failures/s | p50 ms | p95 ms | p99 ms |")
print("| ---: | ---: | ---: | ---: | ---: | ---: |")
passed = 0
for users, seconds in steps:
    of = [r for r in rows if passed + seconds / 2 <= int(r["Timestamp"]) - start < passed + seconds]
    passed += seconds
    if of:
        mean = {key: statistics.fmean(number(r, key) for r in of) for key in ("Requests/s", "Failures/s", "50%", "95%", "99%")}
        print(f"| {users} | {mean['Requests/s']:.1f} | {mean['Failures/s']:.2f} | {mean['50%']:.0f} | {mean['95%']:.0f} | {mean['99%']:.0f} |")
