"""mock-offline: rpmbuild on Debian behind the command line of mock.

A stand-in for places that reach neither Fedora's images nor its mirrors. The
README next to the Dockerfile says what it honours and what it does not.
"""

VERSION = "1.0"

#: What every log says first, so that nobody takes its results for Fedora's.
BANNER = (
    f"Mock Version: mock-offline {VERSION} "
    "(a stand-in for mock: rpmbuild on Debian 13 in the image's own file system)"
)
