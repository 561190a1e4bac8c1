"""Chooses the packages that meet requirements; small, greedy and explainable.

Good for small repositories, which is all a stand-in has: it takes the best
candidate for each requirement in turn and does not come back to a choice.
"""

from .versions import compare_evr, describe, evr_key, satisfies


class Unsolvable(Exception):
    """Requirements that cannot be met; `lines` is what dnf would print."""

    def __init__(self, lines):
        super().__init__("\n".join(lines))
        self.lines = lines


class Solver:
    """Works on what is installed and what the repositories offer."""

    def __init__(self, installed, available):
        self.available = _index(available)
        self.present = _index(installed)
        self.by_name = {package.name: package for package in installed}
        self.chosen = []

    def solve(self, requirements):
        """Gives the packages to install for `requirements` and for what those need."""
        self._refuse_missing(requirements)
        queue = [(requirement, None) for requirement in requirements]
        while queue:
            requirement, needed_by = queue.pop(0)
            if _ignored(requirement) or self._met(requirement, self.present):
                continue
            package = self._choose(requirement, needed_by)
            self._add(package)
            queue += [(need, package) for need in package.requires]
        return self.chosen

    def refuse_conflicts(self, conflicts):
        """BuildConflicts: none of these may be there or be chosen."""
        for conflict in conflicts:
            for package in self._providers(conflict, self.present):
                raise Unsolvable([f"Error: \n Problem: {package.nevra()} conflicts with {describe(*conflict)}"])

    def _refuse_missing(self, requirements):
        missing = [
            need for need in requirements
            if not _ignored(need) and not self._met(need, self.present) and not self._met(need, self.available)
        ]
        if missing:
            lines = [f"No matching package to install: '{describe(*need)}'" for need in missing]
            raise Unsolvable([*lines, "Not all dependencies satisfied", "Error: Some packages could not be found."])

    def _choose(self, requirement, needed_by):
        candidates = self._providers(requirement, self.available)
        if not candidates:
            raise Unsolvable([
                "Error: ", f" Problem: nothing provides {describe(*requirement)} needed by {needed_by.nevra()}",
            ])
        candidates.sort(key=lambda package: (package.name == requirement[0], evr_key(package.evr)), reverse=True)
        problems = [self._problem(package) for package in candidates]
        if all(problems):
            raise Unsolvable(["Error: ", f" Problem: {problems[0]}"])
        return candidates[problems.index(None)]

    def _problem(self, package):
        """Why a package cannot join the others; None when it can."""
        same = self.by_name.get(package.name)
        if same is not None and (same in self.chosen or compare_evr(same.evr, package.evr) >= 0):
            return f"cannot install both {package.nevra()} and {same.nevra()}"
        for conflict in package.conflicts:
            for other in self._providers(conflict, self.present):
                if other.name != package.name:
                    return f"package {package.nevra()} conflicts with {describe(*conflict)} provided by {other.nevra()}"
        ours = _index([package])
        for other in self.by_name.values():
            for conflict in other.conflicts:
                if other.name != package.name and self._met(conflict, ours):
                    return f"package {other.nevra()} conflicts with {describe(*conflict)} provided by {package.nevra()}"
        return None

    def _add(self, package):
        old = self.by_name.get(package.name)
        if old is not None:
            for offers in self.present.values():
                offers[:] = [offer for offer in offers if offer[0] is not old]
        for name, offers in _index([package]).items():
            self.present.setdefault(name, []).extend(offers)
        self.by_name[package.name] = package
        self.chosen.append(package)

    def _met(self, requirement, index):
        return bool(self._providers(requirement, index))

    @staticmethod
    def _providers(requirement, index):
        name, flags, evr = requirement
        found = []
        for package, provided in index.get(name, ()):
            if satisfies(provided, (flags, evr)) and package not in found:
                found.append(package)
        return found


def _index(packages):
    index = {}
    for package in packages:
        for name, flags, evr in package.provides:
            index.setdefault(name, []).append((package, (flags, evr)))
        for path in package.files:
            index.setdefault(path, []).append((package, (0, "")))
    return index


def _ignored(requirement):
    name = requirement[0]
    if name.startswith("("):
        raise Unsolvable([f"Error: mock-offline cannot resolve rich dependencies: {name}"])
    return name.startswith("rpmlib(")
