-- What pollers have in hand goes back into the line; what they did stays, without their names.
UPDATE attempts SET state = 'revoked', reason = 'pollers are not known any more', ended_at = now()
    WHERE state = 'claimed' AND poller_id IS NOT NULL;
UPDATE tasks SET state = 'waiting', current_attempt = NULL
    WHERE held = 'poller' AND state IN ('queued', 'running');
DROP INDEX attempts_to_believe, attempts_with_a_lease, attempts_with_a_pollers_lease, attempts_of_poller;
CREATE INDEX attempts_with_a_lease ON attempts (lease_until) WHERE state = 'claimed';
ALTER TABLE attempts
    DROP CONSTRAINT attempts_claimed_by_someone,
    ADD CONSTRAINT attempts_check
        CHECK (state <> 'claimed' OR (builder_id IS NOT NULL AND lease_until IS NOT NULL AND lease_token_hash IS NOT NULL)),
    DROP COLUMN poller_check_at, DROP COLUMN poller_report, DROP COLUMN poller_id;
ALTER TABLE tasks DROP CONSTRAINT tasks_held_are_delayed;
UPDATE tasks SET delayed = not_before > now() WHERE held IS NOT NULL;
DROP INDEX tasks_delayed;
ALTER TABLE tasks DROP COLUMN held;
CREATE INDEX tasks_delayed ON tasks (not_before) WHERE state = 'waiting' AND delayed AND NOT lacks_image;
DROP INDEX builds_of_poller;
ALTER TABLE builds DROP COLUMN results_url, DROP COLUMN poller_id;
DROP TABLE legacy_pollers;
