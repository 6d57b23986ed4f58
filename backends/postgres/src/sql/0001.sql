-- Times are milliseconds since 1970, by the application's clock. The server's is never asked.
CREATE TABLE {sessions} (
    id uuid PRIMARY KEY,
    -- The name of the hash key, 4 bytes, and the hash of the secret, 32 bytes.
    hash bytea NOT NULL CHECK (octet_length(hash) = 36),
    replaced bytea CHECK (octet_length(replaced) = 36),
    replaced_until bigint,
    version bigint NOT NULL CHECK (version >= 0),
    -- A key to the text of its JSON: kept byte for byte, with any escape that JSON has.
    values jsonb NOT NULL,
    -- How many keys there are, and the bytes of all keys and values.
    keys integer NOT NULL,
    bytes integer NOT NULL,
    created bigint NOT NULL,
    authenticated bigint,
    idle_deadline bigint NOT NULL,
    absolute_deadline bigint NOT NULL,
    -- The hour of the earlier deadline. A touch within the hour changes no index, and stays HOT.
    hour integer NOT NULL,
    realm text COLLATE "C",
    principal text COLLATE "C",
    owner text COLLATE "C",
    fence bigint NOT NULL CHECK (fence >= 0),
    CHECK ((replaced IS NULL) = (replaced_until IS NULL)),
    CHECK ((realm IS NULL) = (principal IS NULL))
) WITH (fillfactor = 70);

CREATE INDEX {sessions_hour} ON {sessions} (hour);
CREATE INDEX {sessions_principal} ON {sessions} (realm, principal) WHERE principal IS NOT NULL;

-- The lock under which sessions of a principal are added and ended together, and the floor below which
-- nobody signs in (a u64 less 2^63, so that it orders as one).
CREATE TABLE {principals} (
    realm text COLLATE "C",
    id text COLLATE "C",
    floor bigint,
    floor_until bigint,
    -- From this hour on the row is of no use.
    hour integer NOT NULL,
    PRIMARY KEY (realm, id)
) WITH (fillfactor = 70);

CREATE INDEX {principals_hour} ON {principals} (hour);

-- Locks a principal to the end of the transaction, and says whether a login on these terms is above
-- the floor.
CREATE FUNCTION {admit}(p_realm text, p_principal text, p_epoch bigint, p_now bigint)
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    lowest bigint;
    until bigint;
BEGIN
    INSERT INTO {principals} AS p (realm, id, hour)
    VALUES (p_realm, p_principal, p_now / 3600000 + 25)
    ON CONFLICT (realm, id) DO UPDATE SET hour = greatest(p.hour, EXCLUDED.hour)
    RETURNING p.floor, p.floor_until INTO lowest, until;
    RETURN coalesce(until <= p_now OR p_epoch >= lowest, lowest IS NULL);
END
$$;

-- The sessions that have to end so that one more makes no more than the cap: the oldest ones. The
-- principal is locked, so no session is added meanwhile.
--
-- They are locked together with that one, in the order of their ids: two logins that end each other's
-- session would wait for each other.
CREATE FUNCTION {lock_excess}(
    p_realm text, p_principal text, p_newest uuid, p_cap bigint, p_now bigint
) RETURNS uuid[] LANGUAGE plpgsql AS $$
DECLARE
    excess uuid[];
BEGIN
    SELECT array_agg(other.id) INTO excess
    FROM (
        SELECT s.id, row_number() OVER (ORDER BY s.authenticated DESC NULLS LAST, s.id DESC) AS nth
        FROM {sessions} s
        WHERE s.realm = p_realm AND s.principal = p_principal AND s.id <> p_newest
            AND least(s.idle_deadline, s.absolute_deadline) > p_now
    ) other
    WHERE other.nth >= greatest(p_cap, 1);
    IF excess IS NOT NULL THEN
        PERFORM FROM {sessions} s WHERE s.id = ANY (excess || p_newest) ORDER BY s.id FOR UPDATE;
    END IF;
    RETURN excess;
END
$$;

-- Ends those of the sessions that still are the principal's.
CREATE FUNCTION {end_excess}(p_realm text, p_principal text, p_excess uuid[], p_channel text)
RETURNS uuid[] LANGUAGE plpgsql AS $$
DECLARE
    ended uuid[];
BEGIN
    WITH gone AS (
        DELETE FROM {sessions} s
        WHERE s.id = ANY (p_excess) AND s.realm = p_realm AND s.principal = p_principal
        RETURNING s.id
    )
    SELECT array_agg(gone.id) INTO ended FROM gone;
    IF p_channel IS NOT NULL THEN
        PERFORM pg_notify(p_channel, 'ended ' || id) FROM unnest(ended) AS id;
    END IF;
    RETURN ended;
END
$$;

CREATE FUNCTION {create}(
    p_id uuid, p_now bigint, p_channel text,
    p_hash bytea, p_replaced bytea, p_replaced_until bigint, p_version bigint,
    p_keys text[], p_values text[], p_bytes integer,
    p_created bigint, p_authenticated bigint, p_idle bigint, p_absolute bigint,
    p_realm text, p_principal text, p_owner text, p_fence bigint,
    p_cap bigint, p_epoch bigint,
    OUT verdict text, OUT at_version bigint, OUT ended uuid[]
) LANGUAGE plpgsql AS $$
DECLARE
    is_admitted boolean := true;
    excess uuid[];
    there {sessions}%ROWTYPE;
BEGIN
    IF p_principal IS NOT NULL THEN
        is_admitted := {admit}(p_realm, p_principal, p_epoch, p_now);
        excess := {lock_excess}(p_realm, p_principal, p_id, p_cap, p_now);
    END IF;
    IF is_admitted THEN
        INSERT INTO {sessions} (
            id, hash, replaced, replaced_until, version, values, keys, bytes, created,
            authenticated, idle_deadline, absolute_deadline, hour, realm, principal, owner, fence
        ) VALUES (
            p_id, p_hash, p_replaced, p_replaced_until, p_version,
            coalesce(jsonb_object(p_keys, p_values), '{}'), coalesce(cardinality(p_keys), 0),
            p_bytes, p_created, p_authenticated, p_idle, p_absolute,
            least(p_idle, p_absolute) / 3600000, p_realm, p_principal, p_owner, p_fence
        ) ON CONFLICT (id) DO NOTHING;
        IF FOUND THEN
            verdict := 'applied';
            at_version := p_version;
            IF excess IS NOT NULL THEN
                ended := {end_excess}(p_realm, p_principal, excess, p_channel);
            END IF;
            RETURN;
        END IF;
    END IF;
    SELECT * INTO there FROM {sessions} s WHERE s.id = p_id;
    IF there.hash = p_hash AND least(there.idle_deadline, there.absolute_deadline) > p_now THEN
        verdict := 'applied';
        at_version := there.version;
    ELSIF FOUND OR is_admitted THEN
        -- If it is not there any more, it was when the insert met it.
        verdict := 'exists';
    ELSE
        verdict := 'below floor';
    END IF;
END
$$;

-- Applies a patch to the row as it stands under its lock, and says why if it does not. A function,
-- because a login needs a fresh look at the principal's sessions after it waited for their lock, which
-- one statement cannot take; and because several statements were several round trips.
CREATE FUNCTION {patch}(
    p_id uuid, p_now bigint, p_channel text,
    p_proof bytea[], p_expected_keys text[], p_expected_values text[], p_expected_fence bigint,
    p_is_over_limit boolean, p_clear boolean,
    p_put_keys text[], p_put_values text[], p_removed text[], p_added_keys text[], p_added bigint[],
    p_max_keys bigint, p_max_bytes bigint,
    p_hash bytea, p_replaced_until bigint, p_authenticated bigint, p_absolute bigint,
    p_realm text, p_principal text, p_cap bigint, p_epoch bigint,
    p_idle bigint, p_owner text,
    OUT verdict text, OUT at_version bigint, OUT sums bigint[], OUT ended uuid[],
    OUT culprit text, OUT amount bigint
) LANGUAGE plpgsql AS $$
DECLARE
    writes CONSTANT boolean := p_clear
        OR num_nulls(p_put_keys, p_removed, p_added_keys) < 3;
    is_touch CONSTANT boolean := NOT writes AND p_hash IS NULL AND p_owner IS NULL;
    is_admitted boolean := true;
    excess uuid[];
    s {sessions}%ROWTYPE;
    merged jsonb;
    counter text;
    total numeric;
BEGIN
    IF p_principal IS NOT NULL THEN
        is_admitted := {admit}(p_realm, p_principal, p_epoch, p_now);
        excess := {lock_excess}(p_realm, p_principal, p_id, p_cap, p_now);
    END IF;
    SELECT * INTO s FROM {sessions} t WHERE t.id = p_id FOR UPDATE;

    IF NOT FOUND OR least(s.idle_deadline, s.absolute_deadline) <= p_now THEN
        verdict := 'gone';
        RETURN;
    END IF;
    IF s.hash IS DISTINCT FROM p_hash AND s.hash <> ALL (p_proof) THEN
        verdict := CASE
            WHEN s.replaced = ANY (p_proof) AND p_now < s.replaced_until THEN 'superseded'
            ELSE 'gone'
        END;
        RETURN;
    END IF;
    IF jsonb_typeof(s.values) <> 'object'
        OR jsonb_path_exists(s.values, '$.* ? (@.type() != "string")')
    THEN
        verdict := 'corrupt';
        RETURN;
    END IF;
    at_version := s.version;
    IF s.hash = p_hash THEN
        -- It was sent twice.
        verdict := 'applied';
        RETURN;
    END IF;
    IF s.fence <> p_expected_fence THEN
        verdict := 'conflict';
        RETURN;
    END IF;
    FOR i IN 1 .. coalesce(cardinality(p_expected_keys), 0) LOOP
        IF s.values ->> p_expected_keys[i] IS DISTINCT FROM p_expected_values[i] THEN
            verdict := 'conflict';
            RETURN;
        END IF;
    END LOOP;
    IF p_is_over_limit THEN
        verdict := 'over limit';
        RETURN;
    END IF;

    IF writes THEN
        merged := CASE WHEN p_clear THEN '{}' ELSE s.values END;
        FOR i IN 1 .. coalesce(cardinality(p_added_keys), 0) LOOP
            culprit := p_added_keys[i];
            counter := coalesce(merged ->> culprit, '0');
            -- An integer as JSON writes it. It may be just too long for an i64.
            total := CASE
                WHEN btrim(counter, E' \t\n\r') ~ '^(0|-?[1-9][0-9]{0,18})$' THEN counter::numeric
            END;
            IF total BETWEEN -9223372036854775808 AND 9223372036854775807 IS NOT TRUE THEN
                verdict := 'not an integer';
                RETURN;
            END IF;
            total := total + p_added[i];
            IF total NOT BETWEEN -9223372036854775808 AND 9223372036854775807 THEN
                verdict := 'overflow';
                RETURN;
            END IF;
            sums := sums || total::bigint;
            merged := merged || jsonb_build_object(culprit, total::text);
        END LOOP;
        merged := merged - coalesce(p_removed, '{}')
            || coalesce(jsonb_object(p_put_keys, p_put_values), '{}');
        SELECT count(*), coalesce(sum(octet_length(e.key) + octet_length(e.value)), 0)
        INTO s.keys, s.bytes
        FROM jsonb_each_text(merged) e;
    END IF;
    IF s.keys > p_max_keys THEN
        verdict := 'too many keys';
        amount := s.keys;
        RETURN;
    END IF;
    IF s.bytes > p_max_bytes THEN
        verdict := 'too large';
        amount := s.bytes;
        RETURN;
    END IF;
    IF NOT is_admitted THEN
        verdict := 'below floor';
        RETURN;
    END IF;

    verdict := 'applied';
    s.absolute_deadline := coalesce(p_absolute, s.absolute_deadline);
    IF p_idle IS NOT NULL THEN
        p_idle := least(greatest(s.idle_deadline, p_idle), s.absolute_deadline);
        IF is_touch AND p_idle = s.idle_deadline THEN
            RETURN;
        END IF;
        s.idle_deadline := p_idle;
    ELSIF is_touch THEN
        RETURN;
    END IF;
    IF p_hash IS NOT NULL THEN
        s.replaced := s.hash;
        s.replaced_until := p_replaced_until;
        s.hash := p_hash;
    ELSIF s.replaced_until <= p_now THEN
        s.replaced := NULL;
        s.replaced_until := NULL;
    END IF;
    IF NOT is_touch THEN
        at_version := least(s.version, 9223372036854775806) + 1;
        IF p_channel IS NOT NULL THEN
            PERFORM pg_notify(p_channel, 'patched ' || p_id || ' ' || at_version);
        END IF;
    END IF;
    UPDATE {sessions} t SET
        hash = s.hash,
        replaced = s.replaced,
        replaced_until = s.replaced_until,
        version = at_version,
        -- Assigned as it is, a value that is kept out of line is not written again.
        values = CASE WHEN writes THEN merged ELSE t.values END,
        keys = s.keys,
        bytes = s.bytes,
        authenticated = coalesce(p_authenticated, s.authenticated),
        idle_deadline = s.idle_deadline,
        absolute_deadline = s.absolute_deadline,
        hour = least(s.idle_deadline, s.absolute_deadline) / 3600000,
        realm = coalesce(p_realm, s.realm),
        principal = coalesce(p_principal, s.principal),
        owner = coalesce(p_owner, s.owner),
        fence = s.fence + (p_owner IS NOT NULL)::integer
    WHERE t.id = p_id;
    IF excess IS NOT NULL THEN
        ended := {end_excess}(p_realm, p_principal, excess, p_channel);
    END IF;
END
$$;

CREATE FUNCTION {end_all}(
    p_realm text, p_principal text, p_except uuid, p_epoch bigint, p_now bigint,
    p_floor_until bigint, p_channel text,
    OUT ended bigint, OUT expired uuid[]
) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM {admit}(p_realm, p_principal, NULL, p_now);
    IF p_epoch IS NOT NULL THEN
        UPDATE {principals} p SET
            floor = CASE WHEN p.floor_until > p_now THEN greatest(p.floor, p_epoch) ELSE p_epoch END,
            floor_until = greatest(p.floor_until, p_floor_until),
            hour = greatest(p.hour, p_floor_until / 3600000 + 1)
        WHERE p.realm = p_realm AND p.id = p_principal;
    END IF;
    PERFORM FROM {sessions} s
    WHERE s.realm = p_realm AND s.principal = p_principal AND s.id IS DISTINCT FROM p_except
    ORDER BY s.id FOR UPDATE;
    WITH gone AS (
        DELETE FROM {sessions} s
        WHERE s.realm = p_realm AND s.principal = p_principal AND s.id IS DISTINCT FROM p_except
        RETURNING s.id, least(s.idle_deadline, s.absolute_deadline) > p_now AS is_live
    ), told AS MATERIALIZED (
        SELECT gone.*, CASE WHEN p_channel IS NOT NULL THEN pg_notify(p_channel, 'ended ' || id) END
        FROM gone
    )
    SELECT count(*) FILTER (WHERE is_live), array_agg(id) FILTER (WHERE NOT is_live)
    INTO ended, expired
    FROM told;
END
$$;
