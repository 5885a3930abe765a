"""What all tests find: SIGINT is not ignored.

A shell has what it runs in its background ignore it, and who is started from there does so, too:
pagesoak as well, and tests that interrupt it would wait in vain.
"""

import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
