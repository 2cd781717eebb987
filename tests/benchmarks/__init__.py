"""
What the SDK costs, beside floors and other SDKs, measured in one run: `nox -s bench`.

    __main__.py      the command: runs the cases, prints progress, writes JSON, prints the table
    environments.py  one virtual environment per subject
    sink.py          an ingest that answers 202 to everything, as a process
    worker.py        runs in a subject's environment and measures what it is told to
    workload.py      the applications, and calling them in this process
    floors.py        what any middleware must cost: `noop` and `mincap`
    instruments.py   how each subject is installed in each framework
    request_path.py  cases of the request path
    delivery.py      cases of capturing, cleaning, draining and holding
    imports.py       what an import costs, on every Python at hand
    serving.py       uvicorn under load
    stats.py         medians, quartiles, paired differences
    budgets.py       the budgets, as a table that a machine can read
    report.py        the tables of docs/performance.md, from the JSON
    plot.py          the plot, from the JSON
"""
