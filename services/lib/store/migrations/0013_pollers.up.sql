-- Pollers of the 2012 API that are known by name. Those in execute mode build: what is routed to one of them is kept
-- from the queue, and its attempts are the poller's instead of a builder's.
CREATE TABLE legacy_pollers (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name          text NOT NULL,
    mode          text NOT NULL CHECK (mode IN ('observe', 'execute')),
    -- SHA-256 of the token in its address, and of its password.
    token_hash    bytea NOT NULL UNIQUE,
    secret_hash   bytea NOT NULL UNIQUE,
    -- What is routed to it: builds of these projects (owner/name; empty: any), all of whose chroots are among these
    -- (empty: any), and of those so many of a hundred.
    projects      text[] NOT NULL DEFAULT '{}',
    chroots       text[] NOT NULL DEFAULT '{}',
    share_percent integer NOT NULL DEFAULT 100 CHECK (share_percent BETWEEN 0 AND 100),
    -- What a start report for a build that is not its own any more is answered with: 200, or 409.
    fence         text NOT NULL DEFAULT 'ignore' CHECK (fence IN ('ignore', 'reject')),
    created_at    timestamptz NOT NULL DEFAULT now(),
    -- Until then it counts as polling: each GET of its list puts it off. Afterwards nothing is routed to it.
    alive_until   timestamptz NOT NULL,
    removed_at    timestamptz,
    -- What it was last answered, and what it last reported.
    fetched_at    timestamptz,
    fetched       bigint[],
    reported_at   timestamptz,
    reported      jsonb
);

CREATE UNIQUE INDEX legacy_pollers_by_name ON legacy_pollers (name) WHERE removed_at IS NULL;

-- Whom a build was routed to, as a whole; null: the queue. And where a poller says that its results are.
ALTER TABLE builds
    ADD COLUMN poller_id   bigint REFERENCES legacy_pollers (id),
    ADD COLUMN results_url text;

CREATE INDEX builds_of_poller ON builds (poller_id, submitted_at, id)
    WHERE poller_id IS NOT NULL AND cancelled_at IS NULL AND first_claim_at IS NULL;

-- Why a task is kept from the queue, whoever has room: it is a poller's, or it was imported and not released. Such a
-- task is delayed, and only the end of the reason puts it into the line.
ALTER TABLE tasks
    ADD COLUMN held text CHECK (held IN ('poller', 'import')),
    ADD CONSTRAINT tasks_held_are_delayed CHECK (held IS NULL OR delayed);

DROP INDEX tasks_delayed;
CREATE INDEX tasks_delayed ON tasks (not_before) WHERE state = 'waiting' AND delayed AND NOT lacks_image AND held IS NULL;

ALTER TABLE attempts
    ADD COLUMN poller_id bigint REFERENCES legacy_pollers (id),
    -- What its poller said of its end, and when that is looked into next: a success counts once its results are there.
    ADD COLUMN poller_report   jsonb,
    ADD COLUMN poller_check_at timestamptz,
    DROP CONSTRAINT attempts_check,
    ADD CONSTRAINT attempts_claimed_by_someone CHECK (state <> 'claimed' OR (lease_until IS NOT NULL
        AND (builder_id IS NOT NULL AND lease_token_hash IS NOT NULL AND poller_id IS NULL
            OR poller_id IS NOT NULL AND builder_id IS NULL)));

CREATE INDEX attempts_of_poller ON attempts (poller_id, task_id) WHERE state = 'claimed' AND poller_id IS NOT NULL;
CREATE INDEX attempts_with_a_pollers_lease ON attempts (lease_until) WHERE state = 'claimed' AND poller_id IS NOT NULL;
DROP INDEX attempts_with_a_lease;
CREATE INDEX attempts_with_a_lease ON attempts (lease_until) WHERE state = 'claimed' AND poller_id IS NULL;
CREATE INDEX attempts_to_believe ON attempts (poller_check_at) WHERE state = 'claimed' AND poller_check_at IS NOT NULL;
