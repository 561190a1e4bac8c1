-- Builders that take no work although they are heard of: those that stop, those that were drained, and those that were
-- set aside for repeated faults of their own.
ALTER TABLE builders
    ADD COLUMN stopping         boolean NOT NULL DEFAULT false,
    ADD COLUMN drained_at       timestamptz,
    -- Attempts in a row that ended in a fault of this builder.
    ADD COLUMN faults           integer NOT NULL DEFAULT 0,
    ADD COLUMN set_aside_at     timestamptz,
    ADD COLUMN set_aside_reason text,
    ADD CONSTRAINT builders_set_aside_for_a_reason CHECK ((set_aside_at IS NULL) = (set_aside_reason IS NULL));

-- Builders that take work: the only ones that open windows, are kept free, and count in what is told of waiting.
CREATE VIEW ready_builders AS
SELECT id, name, archs, engine_id, memory_mib, sandboxes
FROM builders
WHERE last_seen_at > now() - interval '25 seconds'
    AND NOT stopping AND drained_at IS NULL AND set_aside_at IS NULL;
