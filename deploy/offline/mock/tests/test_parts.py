"""The parts that need no container: versions, the solver, the command line, metadata."""

import os
import tempfile
import unittest

import support  # noqa: F401  (finds the package)
from mock_offline.errors import BadCommandLine
from mock_offline.metadata import MetadataError, Package, read_primary, read_repomd
from mock_offline.options import parse
from mock_offline.repository import repository_name
from mock_offline.solver import Solver, Unsolvable
from mock_offline.versions import EQUAL, GREATER, LESS, compare_text, satisfies


def package(name, evr=("0", "1", "1"), **more):
    provides = [(name, EQUAL, f"{evr[1]}-{evr[2]}"), *more.pop("provides", [])]
    return Package(name, "noarch", evr, provides=provides, **more)


class Versions(unittest.TestCase):
    def test_versions_are_ordered_as_rpm_orders_them(self):
        for lower, higher in [
            ("1.0", "1.1"), ("1.9", "1.10"), ("1.0~rc1", "1.0"), ("1.0", "1.0^git1"), ("1.0^git1", "1.0.1"),
            ("1.0a", "1.0.1"), ("1", "1.0"), ("5.5p1", "5.5p10"), ("1.0^20", "1.0^21"), ("2.0~a", "2.0~b"),
        ]:
            self.assertEqual(compare_text(lower, higher), -1, (lower, higher))
            self.assertEqual(compare_text(higher, lower), 1, (lower, higher))
        self.assertEqual(compare_text("1.05", "1.5"), 0)

    def test_a_requirement_is_met_by_what_lies_in_its_range(self):
        self.assertTrue(satisfies((EQUAL, "2.0-1"), (GREATER | EQUAL, "2.0")))
        self.assertTrue(satisfies((EQUAL, "1:1.0-1"), (GREATER, "2.0")))
        self.assertFalse(satisfies((EQUAL, "2.0-1"), (GREATER, "2.0")))
        self.assertFalse(satisfies((EQUAL, "2.0-1"), (EQUAL, "2.0-2")))
        self.assertFalse(satisfies((0, ""), (LESS, "2.0")))
        self.assertTrue(satisfies((0, ""), (0, "")))


class Solving(unittest.TestCase):
    def names(self, installed, available, *requirements):
        return [chosen.name for chosen in Solver(installed, available).solve(list(requirements))]

    def test_what_a_package_needs_comes_along(self):
        offered = [package("a", requires=[("b", 0, "")]), package("b", requires=[("c", 0, "")]), package("c")]
        self.assertEqual(self.names([], offered, ("a", 0, "")), ["a", "b", "c"])

    def test_what_is_installed_is_not_chosen_again(self):
        self.assertEqual(self.names([package("a")], [package("a", ("0", "2", "1"))], ("a", 0, "")), [])

    def test_an_older_installed_version_is_replaced_where_a_newer_is_asked_for(self):
        new = package("a", ("0", "2", "1"))
        self.assertEqual(self.names([package("a")], [new], ("a", GREATER, "1.5")), ["a"])

    def test_the_highest_version_wins(self):
        chosen = Solver([], [package("a"), package("a", ("0", "3", "1")), package("a", ("0", "2", "1"))]).solve([("a", 0, "")])
        self.assertEqual(chosen[0].evr[1], "3")

    def test_a_path_is_met_by_who_has_the_file(self):
        self.assertEqual(self.names([], [package("a", files=["/usr/bin/tool"])], ("/usr/bin/tool", 0, "")), ["a"])

    def test_everything_missing_is_named_at_once(self):
        with self.assertRaises(Unsolvable) as raised:
            self.names([], [], ("a", 0, ""), ("b", GREATER | EQUAL, "2"))
        self.assertIn("No matching package to install: 'a'", raised.exception.lines)
        self.assertIn("No matching package to install: 'b >= 2'", raised.exception.lines)

    def test_a_missing_need_names_who_needs_it(self):
        with self.assertRaisesRegex(Unsolvable, "nothing provides x needed by a-1-1.noarch"):
            self.names([], [package("a", requires=[("x", 0, "")])], ("a", 0, ""))

    def test_packages_that_exclude_each_other_are_refused_in_either_order(self):
        a, b = package("a", conflicts=[("b", 0, "")]), package("b")
        for wanted in (("a", "b"), ("b", "a")):
            with self.assertRaisesRegex(Unsolvable, "conflicts with"):
                self.names([], [a, b], *[(name, 0, "") for name in wanted])

    def test_a_ring_of_needs_ends(self):
        offered = [package("a", requires=[("b", 0, "")]), package("b", requires=[("a", 0, "")])]
        self.assertEqual(self.names([], offered, ("a", 0, "")), ["a", "b"])


class CommandLine(unittest.TestCase):
    def test_what_is_no_option_is_a_source(self):
        options = parse(["-r", "x", "--frobnicate", "a.src.rpm"])
        self.assertEqual(options.arguments, ["--frobnicate", "a.src.rpm"])
        self.assertEqual(options.mode, "rebuild")

    def test_values_may_be_attached(self):
        options = parse(["--root=x", "--addrepo=http://a/?b=c", "--addrepo", "file:///d", "--config-opts=k=v=w"])
        self.assertEqual((options.root, options.repositories), ("x", ["http://a/?b=c", "file:///d"]))
        self.assertEqual(options.setting("k"), "v=w")

    def test_bad_values_are_refused(self):
        for words in (["--isolation", "nspawn"], ["--config-opts", "novalue"], ["--resultdir"]):
            with self.assertRaises(BadCommandLine):
                parse(words)

    def test_repository_names_are_those_of_mock(self):
        self.assertEqual(repository_name("http://host:80/a b/{x}?y"), "host80_ab_xy")


class Metadata(unittest.TestCase):
    def test_broken_metadata_is_an_error_and_no_traceback(self):
        for data in (b"", b"<html>", b"<repomd/>", b"\xff\xfe"):
            with self.assertRaises(MetadataError):
                read_repomd(data)
        for name, data in (("p.xml", b"<a><b></a>"), ("p.xml.gz", b"no gzip"), ("p.xml.zst", b"no zstd"), ("p.xml.xz", b"x")):
            path = os.path.join(tempfile.mkdtemp(), name)
            with open(path, "wb") as file:
                file.write(data)
            with self.assertRaises(MetadataError):
                read_primary(path, ("noarch",))


if __name__ == "__main__":
    unittest.main()
