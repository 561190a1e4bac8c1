"""What can be seen and done while a build runs."""

import os
import signal
import unittest

from support import Running, make_source, mock, processes_of, wait_until


def setUpModule():
    prepared = mock("--init")
    if prepared.code:
        raise AssertionError(prepared.stderr)


class Growth(unittest.TestCase):
    def test_logs_grow_line_by_line_and_packages_come_only_at_the_end(self):
        running = Running("--rebuild", make_source(body="%build\necho first mark\nsleep 60"))
        running.wait_for("build", "\nfirst mark\n")
        self.assertIn("Start: rpmbuild", running.log("state"))
        self.assertIn("bash-", running.log("installed_pkgs"))
        self.assertFalse([name for name in os.listdir(running.resultdir) if name.endswith(".rpm")])
        running.stop()


class Stopping(unittest.TestCase):
    def test_sigint_is_7_at_once_and_leaves_no_process(self):
        running = Running("--rebuild", make_source(body="%build\n( setsid sleep 99 & )\necho mark\nsleep 98"))
        running.wait_for("build", "\nmark\n")
        call = running.stop(signal.SIGINT)
        self.assertEqual(call.code, 7, call.stderr)
        self.assertLess(call.seconds, 2)
        self.assertNotIn("Finish: run", call.stderr)
        self.assertEqual(processes_of(1000), [])

    def test_sigint_ends_a_build_that_ignores_it(self):
        body = "%build\ntrap '' INT TERM\necho mark\nwhile :; do sleep 1 || :; done"
        running = Running("--rebuild", make_source(body=body))
        running.wait_for("build", "\nmark\n")
        self.assertEqual(running.stop(signal.SIGINT).code, 7)
        self.assertEqual(processes_of(1000), [])

    def test_sigterm_is_1_as_for_a_failed_build(self):
        running = Running("--rebuild", make_source(body="%build\necho mark\nsleep 99"))
        running.wait_for("build", "\nmark\n")
        self.assertEqual(running.stop(signal.SIGTERM).code, 1)
        self.assertEqual(processes_of(1000), [])

    def test_after_a_stopped_build_the_root_still_works(self):
        running = Running("--rebuild", make_source(body="%build\necho mark\nsleep 99"))
        running.wait_for("build", "\nmark\n")
        running.stop()
        self.assertEqual(mock("--rebuild", make_source()).code, 0)


class Background(unittest.TestCase):
    def test_a_silent_child_costs_a_second_and_changes_nothing(self):
        call = mock("--rebuild", make_source(body="%build\n( sleep 300 & )"))
        self.assertEqual(call.code, 0, call.stderr)
        self.assertEqual(len(call.packages()), 2)
        self.assertLess(call.seconds, 15)

    def test_a_writing_child_makes_mock_wait_until_it_is_stopped(self):
        body = "%build\n( sh -c 'n=0; while :; do n=$((n+1)); echo noise $n; sleep 0.1; done' & )"
        running = Running("--rebuild", make_source(body=body))
        running.wait_for("build", "Wrote: /builddir/build/RPMS")
        seen = running.log("build").count("noise")
        wait_until(lambda: running.log("build").count("noise") > seen + 20, "more noise after rpmbuild has ended")
        self.assertIsNone(running.process.poll())
        self.assertEqual(running.stop().code, 7)


class Locking(unittest.TestCase):
    def test_a_root_in_use_cannot_be_cleaned(self):
        running = Running("--rebuild", make_source(body="%build\necho mark\nsleep 60"))
        running.wait_for("build", "\nmark\n")
        self.assertEqual(mock("--clean").code, 60)
        running.stop()


if __name__ == "__main__":
    unittest.main()
