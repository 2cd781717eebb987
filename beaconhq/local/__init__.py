"""
The local ingest: what `beaconhq local` and `beaconhq demo` run on a developer's machine.

It answers as the hosted ingest would and shows what arrived. `validation`, `store` and `summary` need the
standard library only; the rest needs the extra `local` and is loaded by `beaconhq.cli` when a command runs.
Nothing in the SDK imports this package.
"""
