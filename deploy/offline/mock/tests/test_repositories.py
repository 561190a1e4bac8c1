"""Dependencies from repositories: served, local, broken, silent and offline."""

import functools
import http.server
import os
import socket
import subprocess
import tempfile
import threading
import unittest

from support import Running, make_source, mock

EXTRA = """
Name: extra-thing
Version: {version}
Release: 1
Summary: Extra
License: MIT
BuildArch: noarch
%description
Extra.
%install
mkdir -p %{{buildroot}}/usr/share/extra-thing
echo {version} > %{{buildroot}}/usr/share/extra-thing/version
%post
id -u > /var/lib/extra-thing-scriptlet
%files
/usr/share/extra-thing
"""

NEEDS = "BuildRequires: extra-thing >= {version}"
CHECK = "%build\ntest \"$(cat /usr/share/extra-thing/version)\" = {version}"


def setUpModule():
    prepared = mock("--init")
    if prepared.code:
        raise AssertionError(prepared.stderr)


def make_repository(version, compression="zstd", folder=""):
    top = tempfile.mkdtemp()
    os.chmod(top, 0o755)
    repository = os.path.join(top, folder)
    spec = os.path.join(top, "extra.spec")
    with open(spec, "w", encoding="utf-8") as file:
        file.write(EXTRA.format(version=version))
    for words in (
        ["rpmbuild", "-bb", "--quiet", "--define", f"_topdir {top}/work", "--define", f"_rpmdir {repository}", spec],
        ["createrepo_c", "--quiet", f"--general-compress-type={compression}", repository],
    ):
        subprocess.run(words, check=True, capture_output=True)
    return top


class Server:
    """Serves a folder on loopback."""

    def __init__(self, folder):
        handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
        handler.func.log_message = lambda *words: None
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class Installing(unittest.TestCase):
    def test_a_package_of_a_served_repository_is_installed_by_root_for_the_build(self):
        server = Server(make_repository("1.1"))
        self.addCleanup(server.stop)
        source = make_source(NEEDS.format(version="1.1"), CHECK.format(version="1.1"))
        call = mock("--addrepo", server.url, "--rebuild", source)
        self.assertEqual(call.code, 0, call.stderr)
        self.assertIn("extra-thing-1.1-1.noarch", call.log("installed_pkgs"))
        with open("/var/lib/extra-thing-scriptlet", encoding="utf-8") as file:
            self.assertEqual(file.read(), "0\n")

    def test_basearch_is_expanded_and_each_compression_is_read(self):
        for version, compression in (("2.1", "gz"), ("2.2", "xz"), ("2.3", "bz2"), ("2.4", "zstd")):
            top = make_repository(version, compression, folder="x86_64")
            source = make_source(NEEDS.format(version=version), CHECK.format(version=version))
            call = mock("--addrepo", f"file://{top}/$basearch/", "--rebuild", source)
            self.assertEqual(call.code, 0, (compression, call.stderr))

    def test_installdeps_then_offline_works_and_offline_alone_does_not(self):
        server = Server(make_repository("4.1"))
        source = make_source(NEEDS.format(version="4.1"), CHECK.format(version="4.1"))
        words = ["--addrepo", server.url]
        refused = mock(*words, "--offline", "--rebuild", source)
        self.assertEqual(refused.code, 30)
        self.assertIn("Cache-only enabled but no cache", refused.log("root"))
        self.assertEqual(mock(*words, "--installdeps", source).code, 0)
        server.stop()
        self.assertEqual(mock(*words, "--rebuild", source).code, 30, "the repository is gone")
        call = mock(*words, "--offline", "--rebuild", source)
        self.assertEqual(call.code, 0, call.stderr)

    def test_dynamic_requires_are_installed_in_rounds(self):
        top = make_repository("3.1")
        source = make_source(body="%generate_buildrequires\necho 'extra-thing >= 3.1'\n" + CHECK.format(version="3.1"))
        call = mock("--addrepo", f"file://{top}", "--rebuild", source)
        self.assertEqual(call.code, 0, call.stderr)
        self.assertIn("Dynamic buildrequires detected", call.log("build"))


class Trouble(unittest.TestCase):
    def refused(self, url):
        call = mock("--addrepo", url, "--rebuild", make_source())
        self.assertEqual(call.code, 30, call.stderr)
        self.assertIn("Failed to download metadata for repo", call.log("root"))
        self.assertNotIn("Traceback", call.stderr)
        self.assertLess(call.seconds, 10)
        return call

    def test_a_broken_repository_fails_the_build_soon_even_if_nothing_is_needed_from_it(self):
        server = Server(tempfile.mkdtemp())
        self.addCleanup(server.stop)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            closed = f"http://127.0.0.1:{free.getsockname()[1]}/"
        for url in (server.url, closed, "http://no-such-host.invalid/", "file:///nowhere", "gopher://x/", "nonsense"):
            self.refused(url)

    def test_metadata_that_lies_is_repository_trouble(self):
        top = make_repository("5.1")
        for name in os.listdir(f"{top}/repodata"):
            if "primary" in name:
                with open(f"{top}/repodata/{name}", "ab") as file:
                    file.write(b"x")
        self.assertIn("checksum", self.refused(f"file://{top}").log("root"))

    def test_a_package_that_is_not_what_metadata_says_is_not_installed(self):
        top = make_repository("6.1")
        with open(f"{top}/noarch/extra-thing-6.1-1.noarch.rpm", "ab") as file:
            file.write(b"x")
        call = mock("--addrepo", f"file://{top}", "--rebuild", make_source(NEEDS.format(version="6.1")))
        self.assertEqual(call.code, 30)
        self.assertIn("checksum doesn't match", call.log("root"))

    def test_a_silent_server_is_given_up_after_the_configured_patience(self):
        with socket.socket() as silent, tempfile.NamedTemporaryFile("w", suffix=".cfg") as config:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            with open("/etc/mock-offline/debian-13-x86_64.cfg", encoding="utf-8") as file:
                text = file.read().replace("repository_timeout = 30", "repository_timeout = 1")
            config.write(text.replace("repository_tries = 4", "repository_tries = 2"))
            config.flush()
            url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
            call = mock("--addrepo", url, "--rebuild", make_source(), root=config.name)
        self.assertEqual(call.code, 30)
        self.assertGreater(call.seconds, 2)

    def test_sigint_while_a_repository_is_silent_is_7(self):
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
            running = Running("--addrepo", url, "--rebuild", make_source())
            silent.settimeout(30)
            connection, _ = silent.accept()
            with connection:
                call = running.stop()
        self.assertEqual(call.code, 7, call.stderr)


if __name__ == "__main__":
    unittest.main()
