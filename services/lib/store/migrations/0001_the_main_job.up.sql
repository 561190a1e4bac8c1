-- The truth. Lock order everywhere: the task's row first, then its attempts, then builders and engines, then the outbox,
-- then its build. Many tasks, or many attempts, are locked in order of id or with SKIP LOCKED. Locks are FOR NO KEY
-- UPDATE, which does not stand in the way of foreign keys. No transaction waits for anything but the database.

CREATE TABLE accounts (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text NOT NULL UNIQUE,
    -- Tasks on offer or running at once; the operator's default where it is null.
    max_running integer CHECK (max_running > 0),
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE projects (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id   bigint NOT NULL REFERENCES accounts (id),
    name         text NOT NULL,
    -- What the legacy list shows as the project's present chroots and repositories; builds keep their own.
    chroots      text[] NOT NULL DEFAULT '{}',
    repositories text[] NOT NULL DEFAULT '{}',
    created_at   timestamptz NOT NULL DEFAULT now(),
    UNIQUE (account_id, name)
);

CREATE TABLE chroots (
    name       text PRIMARY KEY,
    arch       text NOT NULL,
    image      text NOT NULL,
    mock_root  text NOT NULL,
    enabled    boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE builds (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project_id      bigint NOT NULL REFERENCES projects (id),
    submitter_id    bigint NOT NULL REFERENCES accounts (id),
    -- Frozen at submission.
    chroots         text[] NOT NULL CHECK (cardinality(chroots) > 0),
    repositories    text[] NOT NULL,
    memory_mib      integer NOT NULL CHECK (memory_mib > 0),
    timeout_seconds integer NOT NULL CHECK (timeout_seconds > 0),
    -- 0 background, 1 normal, 2 high.
    priority        smallint NOT NULL DEFAULT 1 CHECK (priority BETWEEN 0 AND 2),
    resubmit_of     bigint REFERENCES builds (id),
    submitted_at    timestamptz NOT NULL DEFAULT now(),
    -- A cancelled build, and one of which a task was ever claimed, leaves the legacy list for good.
    cancelled_at    timestamptz,
    first_claim_at  timestamptz
);

CREATE INDEX builds_on_project ON builds (project_id, id);
CREATE INDEX builds_listed_to_pollers ON builds (submitted_at, id)
    WHERE cancelled_at IS NULL AND first_claim_at IS NULL;

CREATE TABLE sources (
    build_id bigint NOT NULL REFERENCES builds (id),
    position integer NOT NULL,
    name     text NOT NULL,
    -- Either fetched from outside, or stored here by digest.
    url      text,
    sha256   text,
    size     bigint,
    PRIMARY KEY (build_id, position),
    CHECK ((url IS NULL) <> (sha256 IS NULL))
);

CREATE INDEX sources_on_sha256 ON sources (sha256) WHERE sha256 IS NOT NULL;

CREATE TABLE tasks (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    build_id         bigint NOT NULL REFERENCES builds (id),
    chroot           text NOT NULL REFERENCES chroots (name),
    arch             text NOT NULL,
    memory_class     text NOT NULL,
    memory_mib       integer NOT NULL,
    owner_id         bigint NOT NULL REFERENCES accounts (id),
    priority         smallint NOT NULL,
    state            text NOT NULL DEFAULT 'waiting'
                     CHECK (state IN ('waiting', 'queued', 'running', 'succeeded', 'failed', 'cancelled')),
    outcome          jsonb,
    current_attempt  uuid,
    -- Attempts made at all, and those of them that were claimed and ended in a fault of ours.
    attempts_made    integer NOT NULL DEFAULT 0,
    attempts_counted integer NOT NULL DEFAULT 0,
    -- Builders on which an earlier attempt failed; another one goes first.
    avoid            uuid[] NOT NULL DEFAULT '{}',
    not_before       timestamptz NOT NULL DEFAULT now(),
    -- Since when the task is in 'waiting' this time.
    waiting_since    timestamptz NOT NULL DEFAULT now(),
    cancel_requested_at timestamptz,
    created_at       timestamptz NOT NULL DEFAULT now(),
    started_at       timestamptz,
    ended_at         timestamptz,
    UNIQUE (build_id, chroot),
    CHECK ((state IN ('succeeded', 'failed', 'cancelled')) = (outcome IS NOT NULL)),
    CHECK ((state IN ('succeeded', 'failed', 'cancelled')) = (ended_at IS NOT NULL)),
    CHECK (state NOT IN ('queued', 'running') OR current_attempt IS NOT NULL)
);

-- Owners take turns, so the oldest of each owner and class of priority are found first.
CREATE INDEX tasks_to_release ON tasks (arch, memory_class, owner_id, priority, id)
    WHERE state = 'waiting' AND current_attempt IS NULL;
CREATE INDEX tasks_of_owner ON tasks (owner_id)
    WHERE current_attempt IS NOT NULL AND state IN ('waiting', 'queued', 'running');
CREATE INDEX tasks_on_offer ON tasks (arch, memory_class)
    WHERE current_attempt IS NOT NULL AND state IN ('waiting', 'queued');

CREATE INDEX tasks_not_ended ON tasks (state, build_id) WHERE state IN ('waiting', 'queued', 'running');

CREATE TABLE builders (
    id           uuid PRIMARY KEY,
    name         text NOT NULL,
    token_hash   bytea NOT NULL,
    engine_id    text NOT NULL,
    archs        text[] NOT NULL,
    memory_mib   integer NOT NULL,
    sandboxes    integer NOT NULL,
    free_mib     integer NOT NULL,
    free_sandboxes integer NOT NULL,
    version      text NOT NULL,
    enrolled_at  timestamptz NOT NULL DEFAULT now(),
    last_seen_at timestamptz NOT NULL DEFAULT now()
);

-- Not unique: a unique index would make an enrolment conflict with the foreign keys of claims.
CREATE INDEX builders_on_token ON builders (token_hash);

-- One row per container engine; its lock makes grants of memory on that engine take turns.
CREATE TABLE engines (
    id         text PRIMARY KEY,
    budget_mib integer NOT NULL
);

CREATE TABLE attempts (
    id               uuid PRIMARY KEY,
    task_id          bigint NOT NULL REFERENCES tasks (id),
    number           integer NOT NULL,
    state            text NOT NULL DEFAULT 'offered'
                     CHECK (state IN ('offered', 'claimed', 'finished', 'lost', 'revoked')),
    -- Why it was revoked, for people.
    reason           text,
    builder_id       uuid REFERENCES builders (id),
    claim_nonce_hash bytea,
    lease_token_hash bytea,
    lease_until      timestamptz,
    phase            text CHECK (phase IN ('fetching', 'building', 'collecting', 'spooled', 'reported')),
    stage            text,
    stages           jsonb NOT NULL DEFAULT '[]',
    outcome          jsonb,
    memory_mib       integer NOT NULL,
    log_size         bigint NOT NULL DEFAULT 0,
    image_digest     text,
    -- Files the last report named but the result store lacked.
    missing_files    jsonb,
    offered_at       timestamptz NOT NULL DEFAULT now(),
    confirmed_at     timestamptz,
    claimed_at       timestamptz,
    ended_at         timestamptz,
    UNIQUE (task_id, number),
    CHECK (state <> 'claimed' OR (builder_id IS NOT NULL AND lease_until IS NOT NULL AND lease_token_hash IS NOT NULL))
);

-- A task never has two attempts alive, whatever the program believes.
CREATE UNIQUE INDEX attempts_alive ON attempts (task_id) WHERE state IN ('offered', 'claimed');
CREATE INDEX attempts_with_a_lease ON attempts (lease_until) WHERE state = 'claimed';
CREATE INDEX attempts_on_offer ON attempts (confirmed_at) WHERE state = 'offered';
CREATE INDEX attempts_of_builder ON attempts (builder_id) WHERE state = 'claimed';

ALTER TABLE tasks ADD CONSTRAINT tasks_current_attempt_fkey
    FOREIGN KEY (current_attempt) REFERENCES attempts (id) DEFERRABLE INITIALLY DEFERRED;

CREATE TABLE attempt_packages (
    attempt_id uuid NOT NULL REFERENCES attempts (id),
    position   integer NOT NULL,
    source     text NOT NULL,
    outcome    jsonb NOT NULL,
    PRIMARY KEY (attempt_id, position)
);

-- Files that have arrived under a valid lease. They are a result once their attempt is accepted.
CREATE TABLE result_files (
    attempt_id  uuid NOT NULL REFERENCES attempts (id),
    position    integer NOT NULL,
    name        text NOT NULL,
    size        bigint NOT NULL,
    sha256      text NOT NULL,
    uploaded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (attempt_id, position, name)
);

CREATE TABLE outbox (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    attempt_id  uuid NOT NULL REFERENCES attempts (id),
    task_id     bigint NOT NULL,
    arch        text NOT NULL,
    memory_class text NOT NULL,
    body        jsonb NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    -- Until then it is left to the frontend that took it to publish it.
    free_at     timestamptz NOT NULL
);

CREATE UNIQUE INDEX outbox_on_attempt ON outbox (attempt_id);

-- A row per job route; its lock makes releases of that route take turns between frontends.
CREATE TABLE routes (
    arch         text NOT NULL,
    memory_class text NOT NULL,
    PRIMARY KEY (arch, memory_class)
);

CREATE TABLE parked_messages (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue     text NOT NULL,
    reason    text NOT NULL,
    -- Redacted and cut.
    body      text NOT NULL,
    parked_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE idempotency_keys (
    account_id bigint NOT NULL REFERENCES accounts (id),
    key        text NOT NULL,
    digest     bytea NOT NULL,
    build_id   bigint NOT NULL REFERENCES builds (id),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account_id, key)
);

CREATE INDEX idempotency_keys_on_age ON idempotency_keys (created_at);

-- When the sweeper last ran; a gap means that something of ours was away.
CREATE TABLE sweeper_ticks (
    single    boolean PRIMARY KEY DEFAULT true CHECK (single),
    ticked_at timestamptz NOT NULL
);

INSERT INTO sweeper_ticks (ticked_at) VALUES (now());
