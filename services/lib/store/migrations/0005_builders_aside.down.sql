DROP VIEW ready_builders;
ALTER TABLE builders
    DROP COLUMN stopping,
    DROP COLUMN drained_at,
    DROP COLUMN faults,
    DROP COLUMN set_aside_at,
    DROP COLUMN set_aside_reason;
