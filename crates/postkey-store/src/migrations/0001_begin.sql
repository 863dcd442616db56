-- Times are milliseconds since 1970, ids are GUIDs as text, documents are JSON as text, sealed values are text.

CREATE TABLE schema_versions (
    version BIGINT PRIMARY KEY,
    applied_at BIGINT NOT NULL
);

-- One value per version of the master key that is in use; it tells a wrong key from a right one.
CREATE TABLE key_checks (
    version BIGINT PRIMARY KEY,
    sealed TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE installation (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    id TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE tenants (
    id TEXT PRIMARY KEY,
    cloud TEXT NOT NULL,
    display_name TEXT,
    domain TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE TABLE apps (
    id TEXT PRIMARY KEY,
    tenant_id TEXT NOT NULL REFERENCES tenants (id),
    client_id TEXT NOT NULL,
    object_id TEXT,
    service_principal_id TEXT,
    unique_name TEXT,
    display_name TEXT NOT NULL,
    origin TEXT NOT NULL CHECK (origin IN ('registered', 'given')),
    permissions TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    UNIQUE (tenant_id, client_id),
    UNIQUE (tenant_id, unique_name)
);

CREATE TABLE credentials (
    id TEXT PRIMARY KEY,
    app_id TEXT NOT NULL REFERENCES apps (id),
    nonce TEXT NOT NULL,
    display_name TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('secret', 'certificate', 'federated')),
    key_id TEXT,
    hint TEXT,
    thumbprint TEXT,
    certificate TEXT,
    assertion_file TEXT,
    secret TEXT,
    private_key TEXT,
    starts_at BIGINT,
    ends_at BIGINT,
    state TEXT NOT NULL CHECK (state IN ('intended', 'minted', 'verified', 'retired')),
    created_at BIGINT NOT NULL,
    minted_at BIGINT,
    verified_at BIGINT,
    retired_at BIGINT,
    UNIQUE (app_id, nonce)
);

CREATE TABLE senders (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    tenant_id TEXT,
    client_id TEXT,
    mailbox TEXT,
    app_id TEXT REFERENCES apps (id),
    route TEXT NOT NULL CHECK (route IN ('automatic', 'graph', 'smtp')),
    reach TEXT NOT NULL CHECK (reach IN ('tenant_wide', 'limited', 'unknown')),
    secret TEXT,
    verified_at BIGINT,
    last_proof TEXT,
    test_message_id TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE TABLE setup_runs (
    name TEXT PRIMARY KEY,
    options TEXT NOT NULL,
    step TEXT NOT NULL,
    facts TEXT NOT NULL,
    revision BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

-- The journal. Rows of these two tables are never changed or removed.
CREATE TABLE intents (
    id TEXT PRIMARY KEY,
    sequence BIGINT NOT NULL,
    epoch BIGINT,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    nonce TEXT,
    payload TEXT NOT NULL,
    at BIGINT NOT NULL,
    CONSTRAINT intents_sequence UNIQUE (sequence)
);

CREATE INDEX intents_by_subject ON intents (subject, sequence);

CREATE TABLE intent_results (
    intent_id TEXT PRIMARY KEY REFERENCES intents (id),
    result TEXT NOT NULL,
    at BIGINT NOT NULL
);

CREATE TABLE events (
    sequence BIGINT NOT NULL,
    at BIGINT NOT NULL,
    kind TEXT NOT NULL,
    result TEXT NOT NULL,
    tenant_id TEXT,
    client_id TEXT,
    aadsts BIGINT,
    correlation_id TEXT,
    trace_id TEXT,
    key_id TEXT,
    detail TEXT,
    CONSTRAINT events_sequence PRIMARY KEY (sequence)
);

CREATE INDEX events_by_time ON events (at);

CREATE TABLE leases (
    name TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    until BIGINT NOT NULL,
    epoch BIGINT NOT NULL
);
