"""`python -m localmodel.gateway --settings FILE`.

As process 1 of a container it would ignore a SIGTERM that has no handler, and a pod deleted while it starts would hang for
its whole grace. So there is one before the imports, which can take seconds on a busy node.
"""

import signal
import sys

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    from localmodel.gateway.process import main

    sys.exit(main())
