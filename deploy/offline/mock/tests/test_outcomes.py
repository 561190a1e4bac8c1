"""Exit codes, phases, result files and streams, by real calls."""

import os
import unittest

from support import ROOT, make_source, mock


def setUpModule():
    prepared = mock("--init")
    if prepared.code:
        raise AssertionError(prepared.stderr)


class Success(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.call = mock("--rebuild", make_source(body="%build\nid -u\necho only in the build log"))

    def test_exit_code_and_packages(self):
        self.assertEqual(self.call.code, 0, self.call.stderr)
        self.assertEqual(self.call.packages(), ["sample-1.0-1.noarch.rpm", "sample-1.0-1.src.rpm"])

    def test_phases_come_in_mocks_order(self):
        self.assertEqual(self.call.phases(), [
            "Start: chroot init", "Start: cleaning package manager metadata", "Finish: cleaning package manager metadata",
            "Finish: chroot init", "Start: build phase for sample.src.rpm", "Start: build setup for sample.src.rpm",
            "Finish: build setup for sample.src.rpm", "Start: rpmbuild sample.src.rpm",
            "Start: Outputting list of installed packages", "Finish: Outputting list of installed packages",
            "Finish: rpmbuild sample.src.rpm", "Finish: build phase for sample.src.rpm", "Finish: run",
        ])
        self.assertIn("Start: run\n", self.call.stderr)

    def test_each_log_says_in_its_first_line_what_made_it(self):
        for name in ("state", "build", "root", "hw_info", "installed_pkgs"):
            self.assertIn("mock-offline", self.call.log(name).split("\n")[0], name)

    def test_build_output_is_in_build_log_alone(self):
        self.assertIn("\nonly in the build log\n", self.call.log("build"))
        self.assertEqual(self.call.stdout, "")
        self.assertNotIn("only in the build log", self.call.stderr)

    def test_rpmbuild_runs_as_the_build_user_who_owns_the_results(self):
        self.assertIn("\n1000\n", self.call.log("build"))
        for name in os.listdir(self.call.resultdir):
            self.assertEqual(os.stat(os.path.join(self.call.resultdir, name)).st_uid, 1000, name)

    def test_main_output_goes_to_stdout_where_it_is_asked_for(self):
        source = make_source(body="%build\nprintf 'bad \\377 text\\n'")
        call = mock("--config-opts", "print_main_output=True", "--rebuild", source)
        self.assertEqual(call.code, 0)
        self.assertIn("Executing(%build)", call.stdout)
        self.assertIn("bad \ufffd text\n", call.log("build"))

    def test_a_cold_root_is_prepared_first_and_cleaned_where_asked(self):
        call = mock("--uniqueext", "cold", "--rebuild", make_source())
        self.assertEqual(call.code, 0, call.stderr)
        self.assertIn("Start: installing minimal buildroot with dnf", call.phases())
        self.assertTrue(os.path.isdir(f"/var/lib/mock/{ROOT}-cold/root"))
        self.assertEqual(mock("--uniqueext", "cold", "--clean").code, 0)
        self.assertFalse(os.path.exists(f"/var/lib/mock/{ROOT}-cold/root"))


class Failures(unittest.TestCase):
    def fails(self, code, call):
        self.assertEqual(call.code, code, call.stderr)
        self.assertNotIn("Traceback", call.stderr)
        self.assertNotIn("Finish: run", call.stderr)
        return call

    def test_a_failing_build_is_1_with_all_phases_finished_and_no_packages(self):
        call = self.fails(1, mock("--rebuild", make_source(body="%build\nexit 3")))
        self.assertIn("Finish: rpmbuild sample.src.rpm", call.phases())
        self.assertEqual(call.packages(), [])
        self.assertTrue(call.log("installed_pkgs"))

    def test_rpmbuild_that_dies_of_a_signal_is_256_minus_it(self):
        self.fails(247, mock("--rebuild", make_source(body="%build\nkill -KILL $PPID")))
        self.fails(245, mock("--rebuild", make_source(body="%build\nkill -SEGV $PPID")))

    def test_a_missing_dependency_is_30_in_build_setup(self):
        call = self.fails(30, mock("--rebuild", make_source("BuildRequires: no-such-thing > 3")))
        self.assertIn("No matching package to install: 'no-such-thing > 3'", call.log("root"))
        self.assertNotIn("Start: rpmbuild sample.src.rpm", call.phases())

    def test_conflicting_dependencies_are_30(self):
        call = self.fails(30, mock("--rebuild", make_source("BuildRequires: demo-lib-devel demo-lib-legacy")))
        self.assertIn("conflicts with", call.log("root"))

    def test_a_dependency_that_lacks_its_own_is_30(self):
        call = self.fails(30, mock("--rebuild", make_source("BuildRequires: demo-lib-broken")))
        self.assertIn("nothing provides demo-lib-missing", call.log("root"))

    def test_a_failing_generator_of_requires_is_10(self):
        self.fails(10, mock("--rebuild", make_source(body="%generate_buildrequires\nexit 1")))

    def test_an_excluded_architecture_is_1(self):
        call = self.fails(1, mock("--rebuild", make_source("ExcludeArch: x86_64 noarch")))
        self.assertIn("excluded", call.log("build"))

    def test_a_spec_that_breaks_here_ends_in_build_setup(self):
        call = self.fails(1, mock("--rebuild", make_source("%{?dist:%{error:broken here}}")))
        self.assertNotIn("Start: rpmbuild sample.src.rpm", call.phases())
        self.assertIn("broken here", call.log("build"))

    def test_rpmbuild_timeout_is_11(self):
        source = make_source(body="%build\nsleep 100")
        self.fails(11, mock("--config-opts", "rpmbuild_timeout=2", "--rebuild", source))

    def test_a_truncated_source_is_40(self):
        source = make_source()
        os.truncate(source, os.path.getsize(source) - 60)
        call = self.fails(40, mock("--rebuild", source))
        self.assertIn("Source RPM is not installable", call.stderr)

    def test_bad_sources_are_1_and_leave_no_logs(self):
        source = make_source()
        os.truncate(source, 200)
        binary = mock("--rebuild", make_source())
        package = os.path.join(binary.resultdir, "sample-1.0-1.noarch.rpm")
        for words, text in (
            (["--rebuild", "/nowhere.src.rpm"], "Cannot find/open srpm: /nowhere.src.rpm"),
            (["--rebuild", source], f"Cannot find/open srpm: {source}"),
            (["--rebuild", package], "File is not an srpm"),
            (["--frobnicate"], "Cannot find/open srpm: --frobnicate"),
        ):
            call = self.fails(1, mock(*words))
            self.assertIn(text, call.stderr)
            self.assertFalse(os.path.exists(call.resultdir))

    def test_an_unknown_chroot_is_3(self):
        for root in ("no-such-chroot", "../../etc/passwd", "/etc/passwd.cfg"):
            self.assertIn("Could not find required config file", self.fails(3, mock("--init", root=root)).stderr)

    def test_bad_values_are_5_and_no_source_is_50(self):
        self.fails(5, mock("--isolation", "nspawn", "--init"))
        self.fails(50, mock("--rebuild"))
        self.fails(50, mock("--installdeps"))

    def test_root_without_an_unprivileged_user_is_refused(self):
        for uid in ("", "0", "x"):
            call = self.fails(1, mock("--rebuild", make_source(), environment={"SUDO_UID": uid}))
            self.assertIn("mock will not run from the root account", call.stderr)

    def test_a_result_directory_that_cannot_be_made_is_70(self):
        self.fails(70, mock("--resultdir", "/proc/result", "--rebuild", make_source()))


if __name__ == "__main__":
    unittest.main()
