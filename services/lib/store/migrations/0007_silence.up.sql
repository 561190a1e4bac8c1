-- Since when sweeps have followed each other without a gap: before that, a builder's silence may have been ours.
ALTER TABLE sweeper_ticks ADD COLUMN resumed_at timestamptz NOT NULL DEFAULT now();

CREATE INDEX tasks_being_cancelled ON tasks (id) WHERE state = 'running' AND cancel_requested_at IS NOT NULL;
