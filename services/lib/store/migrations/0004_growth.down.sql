DROP TABLE turns;
DROP INDEX attempts_on_builder;
DROP INDEX attempts_with_a_log;
DROP INDEX attempts_to_tidy;
ALTER TABLE attempts DROP COLUMN log_removed_at, DROP COLUMN tidied_at;
