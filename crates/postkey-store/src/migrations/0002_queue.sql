-- Submitters, the queue, and what is told to others. `{by_key}` stands for how a database keeps a table
-- in the order of its key (dialect.rs). Where a submitter may be missing, '' stands for none: NULL would be no part of a key.

ALTER TABLE senders ADD COLUMN on_unknown TEXT NOT NULL DEFAULT 'at_least_once'
    CHECK (on_unknown IN ('at_least_once', 'at_most_once'));

CREATE TABLE submitters (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    rules TEXT NOT NULL,
    disabled_at BIGINT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE UNIQUE INDEX submitters_by_name ON submitters (LOWER(name));

CREATE TABLE submitter_senders (
    submitter_id TEXT NOT NULL REFERENCES submitters (id) ON DELETE CASCADE,
    position BIGINT NOT NULL,
    sender_id TEXT NOT NULL REFERENCES senders (id),
    PRIMARY KEY (submitter_id, position),
    UNIQUE (submitter_id, sender_id)
);

CREATE INDEX submitter_senders_by_sender ON submitter_senders (sender_id);

-- The key of the HMAC by which passwords and API keys are kept.
CREATE TABLE sealed_keys (
    id TEXT PRIMARY KEY,
    bytes TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE local_secrets (
    id TEXT PRIMARY KEY,
    submitter_id TEXT NOT NULL REFERENCES submitters (id) ON DELETE CASCADE,
    mac TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    last_used_at BIGINT
);

CREATE INDEX local_secrets_by_submitter ON local_secrets (submitter_id);

CREATE TABLE api_keys (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    submitter_id TEXT REFERENCES submitters (id) ON DELETE CASCADE,
    scopes TEXT NOT NULL,
    mac TEXT NOT NULL,
    disabled_at BIGINT,
    expires_at BIGINT,
    created_at BIGINT NOT NULL,
    last_used_at BIGINT
);

CREATE UNIQUE INDEX api_keys_by_name ON api_keys (LOWER(name));
CREATE INDEX api_keys_by_submitter ON api_keys (submitter_id);

-- Ids grow with time, so rows are only ever appended. A message outlives its sender and submitter: no references.
CREATE TABLE messages (
    id TEXT PRIMARY KEY,
    sender_id TEXT NOT NULL,
    submitter_id TEXT NOT NULL,
    priority BIGINT NOT NULL,
    state TEXT NOT NULL
        CHECK (state IN ('queued', 'sending', 'deferred', 'unknown', 'accepted', 'failed', 'cancelled')),
    due_at BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    events BIGINT NOT NULL,
    size BIGINT NOT NULL,
    accepted_at BIGINT NOT NULL,
    settled_at BIGINT,
    via TEXT NOT NULL CHECK (via IN ('smtp', 'http', 'own')),
    remote TEXT,
    graph_json BIGINT NOT NULL,
    subject TEXT,
    message_id TEXT,
    outcome TEXT,
    envelope TEXT NOT NULL
);

-- Only what waits is in it: settled messages cost the queue nothing.
CREATE INDEX messages_waiting ON messages (sender_id, submitter_id, priority, due_at, id)
    WHERE state IN ('queued', 'deferred');
-- What stands out, newest last; most messages never enter it for longer than an attempt.
CREATE INDEX messages_by_state ON messages (state, sender_id, due_at, id)
    WHERE state IN ('sending', 'deferred', 'unknown', 'failed', 'cancelled');

CREATE TABLE message_bodies (
    id TEXT NOT NULL PRIMARY KEY,
    body BYTEA NOT NULL
);

CREATE TABLE message_events (
    message_id TEXT NOT NULL,
    number BIGINT NOT NULL,
    at BIGINT NOT NULL,
    kind TEXT NOT NULL,
    detail TEXT NOT NULL,
    PRIMARY KEY (message_id, number)
) {by_key};

-- How many messages there are, kept in the same commit as they change. Each writer has a stripe of its own, so that several
-- nodes do not wait for one row; a single stripe may be negative, the sum never is.
CREATE TABLE message_counts (
    sender_id TEXT NOT NULL,
    submitter_id TEXT NOT NULL,
    state TEXT NOT NULL,
    stripe BIGINT NOT NULL,
    messages BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    PRIMARY KEY (sender_id, submitter_id, state, stripe)
) {by_key};

-- What was submitted by whom and sent as whom, in buckets of five minutes: from it quotas are counted after a restart.
CREATE TABLE message_usage (
    bucket BIGINT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('submitted', 'sent')),
    id TEXT NOT NULL,
    stripe BIGINT NOT NULL,
    messages BIGINT NOT NULL,
    recipients BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    PRIMARY KEY (bucket, kind, id, stripe)
) {by_key};

CREATE TABLE idempotency_keys (
    submitter_id TEXT NOT NULL,
    name TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    message_id TEXT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (submitter_id, name)
) {by_key};

CREATE INDEX idempotency_keys_by_time ON idempotency_keys (at);

CREATE TABLE holds (
    id TEXT PRIMARY KEY,
    scope TEXT NOT NULL CHECK (scope IN ('sender', 'app', 'tenant', 'submitter', 'domain')),
    subject TEXT NOT NULL,
    cause TEXT NOT NULL CHECK (cause IN ('paused', 'outage')),
    class TEXT,
    code TEXT,
    reason TEXT NOT NULL,
    remedy TEXT,
    who TEXT,
    since BIGINT NOT NULL,
    until BIGINT,
    set_by TEXT
);

CREATE TABLE webhooks (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    url TEXT NOT NULL,
    events TEXT NOT NULL,
    secret TEXT NOT NULL,
    disabled_at BIGINT,
    created_at BIGINT NOT NULL
);

CREATE UNIQUE INDEX webhooks_by_name ON webhooks (LOWER(name));

-- What is still to be told; a row goes when it was told. With `dead_at` nobody tries any more until a person asks.
CREATE TABLE notices (
    id TEXT PRIMARY KEY,
    webhook_id TEXT NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    message_id TEXT,
    kind TEXT NOT NULL,
    payload TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    due_at BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    last_error TEXT,
    dead_at BIGINT
);

CREATE INDEX notices_due ON notices (due_at, id) WHERE dead_at IS NULL;
CREATE INDEX notices_by_webhook ON notices (webhook_id);

-- Raised in the commit of every change that others keep in memory.
CREATE TABLE revisions (
    topic TEXT PRIMARY KEY,
    revision BIGINT NOT NULL
);
