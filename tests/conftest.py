"""What more than one directory of tests needs."""

from __future__ import annotations

import signal

from hypothesis import HealthCheck, settings

# Started in the background, a shell has us ignore Ctrl-C, and so would every child that a test interrupts on purpose.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes to make says more about the machine than about the test.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
