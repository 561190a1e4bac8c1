DROP INDEX attempt_packages_by_name;
