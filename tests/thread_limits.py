"""One thread for every test, and for every process that a test starts.

The libraries read these variables when they are loaded, so this module is imported before torch and OpenCV.  With the
default of one thread per core, OpenMP's threads spin while they wait for each other: beside other work on the machine
the suite becomes many times slower, and its timeouts expire.
"""

import os


os.environ |= {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OPENCV_FOR_THREADS_NUM": "1",
    # For tests that ask for several threads: they sleep while they wait.
    "OMP_WAIT_POLICY": "passive",
}
