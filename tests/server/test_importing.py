"""What a server that nobody fits probes on does not pay for."""

import subprocess
import sys


def test_scikit_learn_is_imported_by_fits_alone():
    """It takes a second of every start, and 120 MB for as long as the server lives."""
    code = "import sys, onnxscope_server.app; print(sorted({'sklearn', 'scipy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
