"""Run the commands on broken inputs, and print a table of what they do.

    python -m benchmarks.broken_inputs [--group GROUP ...] [--report broken.json]

A line per input: exit code, seconds, peak memory, and the line on stderr. The exit code is 1 if a command shows a
traceback, hangs for 30 seconds, leaves a partial file, needs too much memory, changes its input or gives no clear
reason. The inputs are those of the tests, in `tests/broken_inputs`.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path


sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from broken_inputs.case import problems
from broken_inputs.corpus import all_cases
from broken_inputs.runner import Runner


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--group", nargs="+", help="only the inputs of these groups")
    parser.add_argument("--name", default="", help="only inputs whose name contains this")
    parser.add_argument("--failed", action="store_true", help="print only what is wrong")
    parser.add_argument("--report", type=Path, help="JSON file to write all lines to")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder, Runner(Path(folder)) as runner:
        for case in all_cases():
            if (args.group and case.group not in args.group) or args.name not in case.name:
                continue
            outcome = runner.run(case)
            wrong = problems(case, outcome)
            rows.append({"group": case.group, "name": case.name} | asdict(outcome) | {"problems": wrong})
            if wrong or not args.failed:
                line = outcome.line.replace(folder + "/case/", "")[:200]
                print(
                    f"{case.group:12s} {case.name:45.45s} {outcome.code!s:>4s} {outcome.seconds:5.1f} s "
                    f"{outcome.memory >> 20:5d} MiB  {line}",
                    flush=True,
                )
            for problem in wrong:
                print(f"  *** {problem}", flush=True)
    if args.report:
        args.report.write_text(json.dumps(rows, indent=2) + "\n")
    num_wrong = sum(bool(row["problems"]) for row in rows)
    codes = {code: sum(row["code"] == code for row in rows) for code in (0, 1, 2)}
    print(
        f"{len(rows)} inputs: {codes[0]} restored, {codes[1]} refused with exit code 1, {codes[2]} with exit code 2; "
        f"{num_wrong} wrong; longest {max(row['seconds'] for row in rows):.1f} s, "
        f"most memory {max(row['memory'] for row in rows) >> 20} MiB"
    )
    return int(num_wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
