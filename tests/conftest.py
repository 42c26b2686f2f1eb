"""Settings of all tests."""

import os
import signal

from hypothesis import settings

# One test process a core: thread pools that spin beside each other would make torch ten times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell starts what it runs in the background without Ctrl-C, and so would be what the tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Shared machines pause; a slow example is no failure.
settings.register_profile("latbench", deadline=None)
settings.load_profile("latbench")
