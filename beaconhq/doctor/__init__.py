"""
The command `beaconhq doctor`: what is wrong with a set-up, and what to do about it.

It runs in production images, so it needs no extra: the standard library, and the httpx and anyio of the SDK,
which does not import it. Apart are reading the configuration (`sources.py`, `adapters.py`), trying the
network (`network.py`), judging what happened (`faults.py`), the words for it (`words.py`) and showing it
(`show.py`).
"""
