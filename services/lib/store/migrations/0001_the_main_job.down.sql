DROP TABLE sweeper_ticks, idempotency_keys, parked_messages, routes, outbox, result_files, attempt_packages;
ALTER TABLE tasks DROP CONSTRAINT tasks_current_attempt_fkey;
DROP TABLE attempts, engines, builders, tasks, sources, builds, chroots, projects, accounts;
