-- What earlier builds of a package used, found by the package's name: what stands before version and release.
CREATE INDEX attempt_packages_by_name ON attempt_packages
    (regexp_replace(source, '(-[^-]+-[^-]+)?\.src\.rpm$', ''))
    WHERE outcome ->> 'kind' = 'succeeded';
