DROP INDEX tasks_being_cancelled;
ALTER TABLE sweeper_ticks DROP COLUMN resumed_at;
