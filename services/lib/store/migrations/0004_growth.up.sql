-- What may be forgotten, and when it was.

-- Files that no accepted report named are removed once, soon after the attempt's end; its log much later.
ALTER TABLE attempts ADD COLUMN tidied_at timestamptz, ADD COLUMN log_removed_at timestamptz;

CREATE INDEX attempts_to_tidy ON attempts (ended_at)
    WHERE ended_at IS NOT NULL AND claimed_at IS NOT NULL AND tidied_at IS NULL;
CREATE INDEX attempts_with_a_log ON attempts (ended_at)
    WHERE ended_at IS NOT NULL AND claimed_at IS NOT NULL AND log_removed_at IS NULL;
-- A builder may be forgotten when no attempt names it.
CREATE INDEX attempts_on_builder ON attempts (builder_id) WHERE builder_id IS NOT NULL;

-- When periodic work was last begun: of several frontends one does it.
CREATE TABLE turns (
    name     text PRIMARY KEY,
    begun_at timestamptz NOT NULL
);

INSERT INTO turns (name, begun_at) VALUES ('minute', '-infinity'), ('hour', '-infinity');
