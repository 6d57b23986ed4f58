-- What the store asks for, one function for each operation that locks: a login needs a fresh look at the
-- principal's sessions after it waited for their lock, which one statement cannot take; and several
-- statements were several round trips.
--
-- Everything that adds a principal's sessions or ends them locks the principal first, several of them in
-- the order of their names, and then sessions. So no two transactions wait for each other.

-- Whether a proof, the first 36 bytes of one or more hashes, shows the secret behind a hash: null if it has
-- none under the key of that one.
CREATE FUNCTION {judge}(p_proof bytea[], p_hash bytea) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN substr(p_hash, 1, 36) = ANY (p_proof) THEN true
        WHEN substr(p_hash, 1, 4) IN (SELECT substr(h, 1, 4) FROM unnest(p_proof) h) THEN false
    END
$$;

-- Locks a principal to the end of the transaction, and counts the sessions of one that was not known.
CREATE FUNCTION {lock}(p_realm text, p_principal text) RETURNS {principals}
LANGUAGE plpgsql AS $$
DECLARE
    p {principals}%ROWTYPE;
BEGIN
    LOOP
        SELECT * INTO p FROM {principals} t
        WHERE t.realm = p_realm AND t.id = p_principal FOR UPDATE;
        IF FOUND THEN
            RETURN p;
        END IF;
        INSERT INTO {principals} (realm, id, sessions)
        SELECT p_realm, p_principal, count(*) FROM {sessions} s
        WHERE s.realm = p_realm AND s.principal = p_principal
        ON CONFLICT DO NOTHING;
    END LOOP;
END
$$;

-- Counts sessions that a locked principal gained or lost. One that has none left, and no floor, is
-- forgotten.
CREATE FUNCTION {count}(p_realm text, p_principal text, p_gained integer, p_now bigint)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM {principals} p
    WHERE p.realm = p_realm AND p.id = p_principal AND p.sessions + p_gained <= 0
        AND (p.floor IS NULL OR p.floor_until <= p_now);
    IF NOT FOUND AND p_gained <> 0 THEN
        UPDATE {principals} p SET sessions = greatest(p.sessions + p_gained, 0)
        WHERE p.realm = p_realm AND p.id = p_principal;
    END IF;
END
$$;

-- Tells those who listen, and whether there is anybody.
CREATE FUNCTION {tell}(p_what text, p_ids uuid[], p_version bigint) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    -- Looked up after the change, whose lock on the table a new listener waits for.
    IF p_ids IS NULL OR NOT EXISTS (SELECT FROM {listeners} l WHERE l.until > clock_timestamp()) THEN
        RETURN false;
    END IF;
    INSERT INTO {changes} (what, id, version) SELECT p_what, id, p_version FROM unnest(p_ids) id;
    RETURN true;
END
$$;

-- Returns true if sessions that end without a request are to be kept until they are reported.
CREATE FUNCTION {keeps}() RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM {keepers} k WHERE k.until > clock_timestamp())
$$;

-- Claims sessions that ended without a request, in the order in which they can be claimed, and asks to keep
-- further ones for a day. What nobody acknowledged within a day after it ended is dropped.
CREATE FUNCTION {claim}(p_now bigint, p_until bigint, p_limit bigint)
RETURNS TABLE (id uuid, realm text, principal text, reason text, at bigint) LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM {keepers} k WHERE k.until > clock_timestamp() + interval '23 h') THEN
        INSERT INTO {keepers} AS k (id, until) VALUES (1, clock_timestamp() + interval '24 h')
        ON CONFLICT ON CONSTRAINT {keepers_key} DO UPDATE SET until = excluded.until;
    END IF;
    DELETE FROM {endings} e USING (
        SELECT o.id FROM {endings} o WHERE o.at < p_now - 86400000 LIMIT 1000 FOR UPDATE SKIP LOCKED
    ) old WHERE e.id = old.id;
    RETURN QUERY
    WITH free AS (
        SELECT f.id FROM {endings} f WHERE f.free_at <= p_now
        ORDER BY f.free_at, f.at LIMIT p_limit FOR UPDATE SKIP LOCKED
    )
    UPDATE {endings} e SET free_at = p_until FROM free WHERE e.id = free.id
    RETURNING e.id, e.realm, e.principal, e.reason, e.at;
END
$$;

-- Whether a locked principal lets somebody sign in with this epoch.
CREATE FUNCTION {admits}(p {principals}, p_epoch bigint, p_now bigint) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT p.floor IS NULL OR p.floor_until <= p_now OR coalesce(p_epoch >= p.floor, false)
$$;

-- Whether a locked principal has as many live sessions as they may, beside this one.
CREATE FUNCTION {is_full}(
    p_realm text, p_principal text, p_id uuid, p_cap bigint, p_now bigint
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    others bigint;
BEGIN
    SELECT count(*) INTO others FROM {sessions} s
    WHERE s.realm = p_realm AND s.principal = p_principal AND s.id <> p_id
        AND least(s.idle_end, s.absolute_end) > p_now;
    RETURN others >= greatest(p_cap, 1);
END
$$;

-- Counts the newest session of a locked principal, unless it is counted already, and ends the oldest ones
-- beyond the cap. Those that expired do not count, and go first.
--
-- Finding the oldest takes one look at an index. The sessions are looked through only when one of them may
-- have expired since the last time.
CREATE FUNCTION {admit}(
    p_realm text, p_principal text, p_newest uuid, p_is_counted boolean, p_deadline bigint,
    p_cap bigint, p_now bigint, p_tells boolean,
    OUT ended uuid[], OUT expired uuid[], OUT is_told boolean
) LANGUAGE plpgsql AS $$
DECLARE
    p {principals}%ROWTYPE;
    cap CONSTANT bigint := greatest(p_cap, 1);
    told boolean;
BEGIN
    SELECT * INTO p FROM {principals} t WHERE t.realm = p_realm AND t.id = p_principal;
    p.sessions := p.sessions + (NOT p_is_counted)::integer;
    p.expires := CASE
        WHEN p.sessions = 1 THEN p_deadline
        WHEN p.expires IS NOT NULL THEN least(p.expires, p_deadline)
    END;
    is_told := false;
    IF p.sessions > cap AND (p.expires IS NULL OR p.expires <= p_now) THEN
        WITH gone AS (
            DELETE FROM {sessions} s
            WHERE s.realm = p_realm AND s.principal = p_principal AND s.id <> p_newest
                AND least(s.idle_end, s.absolute_end) <= p_now
            RETURNING s.id, least(s.idle_end, s.absolute_end) AS at
        ), kept AS (
            INSERT INTO {endings} (id, realm, principal, reason, at)
            SELECT g.id, p_realm, p_principal, 'expired', g.at FROM gone g WHERE {keeps}()
            ON CONFLICT DO NOTHING
        )
        SELECT array_agg(gone.id) INTO expired FROM gone;
        SELECT count(*), min(least(s.idle_end, s.absolute_end)) INTO p.sessions, p.expires
        FROM {sessions} s WHERE s.realm = p_realm AND s.principal = p_principal;
        IF p_tells THEN
            is_told := {tell}('ended expired', expired, NULL);
        END IF;
    END IF;
    IF p.sessions > cap THEN
        WITH oldest AS (
            SELECT s.id FROM {sessions} s
            WHERE s.realm = p_realm AND s.principal = p_principal AND s.id <> p_newest
            ORDER BY s.authenticated NULLS FIRST, s.id
            LIMIT p.sessions - cap
        ), gone AS (
            DELETE FROM {sessions} s USING oldest WHERE s.id = oldest.id RETURNING s.id
        ), kept AS (
            INSERT INTO {endings} (id, realm, principal, reason, at)
            SELECT g.id, p_realm, p_principal, 'cap', p_now FROM gone g WHERE {keeps}()
            ON CONFLICT DO NOTHING
        )
        SELECT array_agg(gone.id) INTO ended FROM gone;
        p.sessions := p.sessions - coalesce(cardinality(ended), 0);
        IF p_tells THEN
            told := {tell}('ended cap', ended, NULL);
            is_told := is_told OR told;
        END IF;
    END IF;
    UPDATE {principals} t SET sessions = p.sessions, expires = p.expires
    WHERE t.realm = p_realm AND t.id = p_principal;
END
$$;

CREATE FUNCTION {create}(
    p_id uuid, p_now bigint, p_tells boolean,
    p_format integer, p_hash bytea, p_replaced bytea, p_replaced_until bigint, p_version bigint,
    p_keys text[], p_values text[], p_size integer,
    p_created bigint, p_authenticated bigint, p_idle bigint, p_absolute bigint,
    p_realm text, p_principal text, p_sign_in bigint, p_facts bytea, p_owner text, p_fence bigint,
    p_cap bigint, p_epoch bigint, p_refuses boolean,
    OUT verdict text, OUT at_version bigint, OUT ended uuid[], OUT expired uuid[], OUT is_told boolean
) LANGUAGE plpgsql SET lock_timeout = '400ms' AS $$
DECLARE
    is_admitted boolean := true;
    is_full boolean := false;
    there {sessions}%ROWTYPE;
BEGIN
    is_told := false;
    IF p_principal IS NOT NULL THEN
        is_admitted := {admits}({lock}(p_realm, p_principal), p_epoch, p_now);
        is_full := p_refuses AND {is_full}(p_realm, p_principal, p_id, p_cap, p_now);
    END IF;
    IF is_admitted AND NOT is_full THEN
        INSERT INTO {sessions} (
            id, format, hash, replaced, replaced_until, version, values, keys, size, created,
            authenticated, idle_end, absolute_end, hour, realm, principal, sign_in, facts, owner, fence
        ) VALUES (
            p_id, p_format, p_hash, p_replaced, p_replaced_until, p_version,
            coalesce(jsonb_object(p_keys, p_values), '{}'), coalesce(cardinality(p_keys), 0),
            p_size, p_created, p_authenticated, p_idle, p_absolute,
            least(p_idle, p_absolute) / 3600000, p_realm, p_principal, p_sign_in, p_facts, p_owner,
            p_fence
        ) ON CONFLICT (id) DO NOTHING;
        IF FOUND THEN
            verdict := 'applied';
            at_version := p_version;
            IF p_principal IS NOT NULL THEN
                SELECT a.* INTO ended, expired, is_told
                FROM {admit}(
                    p_realm, p_principal, p_id, false, least(p_idle, p_absolute), p_cap, p_now, p_tells
                ) a;
            END IF;
            RETURN;
        END IF;
    END IF;
    IF p_principal IS NOT NULL THEN
        PERFORM {count}(p_realm, p_principal, 0, p_now);
    END IF;
    SELECT * INTO there FROM {sessions} s WHERE s.id = p_id;
    IF substr(there.hash, 1, 36) = substr(p_hash, 1, 36)
        AND least(there.idle_end, there.absolute_end) > p_now
    THEN
        verdict := 'applied';
        at_version := there.version;
    ELSIF FOUND OR is_admitted AND NOT is_full THEN
        -- If it is not there any more, it was when the insert met it.
        verdict := 'exists';
    ELSE
        verdict := CASE WHEN is_admitted THEN 'at cap' ELSE 'below floor' END;
    END IF;
END
$$;

-- What the limit of a record counts of values: of sealed ones what was sealed; see sealed.rs of the core.
CREATE FUNCTION {counted}(p_values jsonb) RETURNS bigint
LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(sum(octet_length(e.key) + CASE
        WHEN length(s.sealed) * 3 / 4 >= 40 THEN length(s.sealed) * 3 / 4 - 40
        ELSE octet_length(e.value)
    END), 0)
    FROM jsonb_each_text(p_values) e,
        LATERAL (SELECT substring(e.value FROM '^"\$sealed1:[^:]+:([A-Za-z0-9_-]*)"$') AS sealed) s
$$;

-- Applies a patch to the row as it stands under its lock, and says why if it does not.
CREATE FUNCTION {patch}(
    p_id uuid, p_now bigint, p_tells boolean,
    p_known integer, p_format integer, p_proof bytea[], p_sign_in bigint,
    p_expected_keys text[], p_expected_values text[], p_expected_fence bigint,
    p_is_over_limit boolean, p_clear boolean,
    p_put_keys text[], p_put_values text[], p_removed text[], p_added_keys text[], p_added bigint[],
    p_max_keys bigint, p_max_size bigint,
    p_rehash_from bytea[], p_rehash_to bytea,
    p_hash bytea, p_replaced_until bigint, p_authenticated bigint, p_absolute bigint, p_facts bytea,
    p_realm text, p_principal text, p_cap bigint, p_epoch bigint, p_refuses boolean,
    p_idle bigint, p_owner text,
    OUT verdict text, OUT at_version bigint, OUT sums bigint[], OUT ended uuid[], OUT expired uuid[],
    OUT is_told boolean, OUT culprit text, OUT amount bigint, OUT unknown_key bytea
) LANGUAGE plpgsql SET lock_timeout = '400ms' AS $$
DECLARE
    is_touch CONSTANT boolean := NOT p_clear AND p_hash IS NULL AND p_owner IS NULL
        AND num_nulls(p_put_keys, p_removed, p_added_keys) = 3;
    is_login CONSTANT boolean := p_principal IS NOT NULL;
    is_authentication CONSTANT boolean := p_absolute IS NOT NULL;
    is_admitted boolean := true;
    is_full boolean := false;
    is_other_principal boolean := false;
    is_rehashed boolean := false;
    writes boolean := p_clear OR num_nulls(p_put_keys, p_removed, p_added_keys) < 3;
    former_realm text;
    former_principal text;
    s {sessions}%ROWTYPE;
    shown boolean;
    merged jsonb;
    counter text;
    total numeric;
    told boolean := false;
    latest_idle bigint;
BEGIN
    is_told := false;
    IF is_authentication THEN
        SELECT t.realm, t.principal INTO former_realm, former_principal FROM {sessions} t WHERE t.id = p_id;
        is_other_principal := is_login
            AND (former_realm, former_principal) IS DISTINCT FROM (p_realm, p_principal);
        IF former_principal IS NOT NULL
            AND (NOT is_login OR (former_realm, former_principal) < (p_realm, p_principal))
        THEN
            PERFORM {lock}(former_realm, former_principal);
        END IF;
        IF is_login THEN
            is_admitted := {admits}({lock}(p_realm, p_principal), p_epoch, p_now);
        END IF;
        IF is_login AND p_refuses THEN
            is_full := {is_full}(p_realm, p_principal, p_id, p_cap, p_now);
        END IF;
        IF is_login AND (former_realm, former_principal) > (p_realm, p_principal) THEN
            PERFORM {lock}(former_realm, former_principal);
        END IF;
    END IF;
    SELECT * INTO s FROM {sessions} t WHERE t.id = p_id FOR UPDATE;

    <<decide>>
    BEGIN
        IF NOT FOUND THEN
            verdict := 'gone';
            EXIT decide;
        END IF;
        IF s.format > p_known THEN
            verdict := 'newer format';
            amount := s.format;
            EXIT decide;
        END IF;
        IF is_authentication
            AND (s.realm, s.principal) IS DISTINCT FROM (former_realm, former_principal)
        THEN
            RAISE 'another login came first' USING ERRCODE = 'serialization_failure';
        END IF;
        IF least(s.idle_end, s.absolute_end) <= p_now THEN
            verdict := 'gone';
            EXIT decide;
        END IF;
        IF p_proof IS NOT NULL AND substr(s.hash, 1, 36) IS DISTINCT FROM substr(p_hash, 1, 36) THEN
            shown := {judge}(p_proof, s.hash);
            IF shown IS NULL THEN
                verdict := 'unknown key';
                unknown_key := s.hash;
                EXIT decide;
            END IF;
            IF NOT shown THEN
                IF s.replaced IS NULL OR p_now >= s.replaced_until THEN
                    verdict := 'gone';
                    EXIT decide;
                END IF;
                shown := {judge}(p_proof, s.replaced);
                verdict := CASE
                    WHEN shown THEN 'superseded' WHEN shown IS NULL THEN 'unknown key' ELSE 'gone'
                END;
                unknown_key := s.replaced;
                EXIT decide;
            END IF;
        END IF;
        IF jsonb_typeof(s.values) <> 'object'
            OR jsonb_path_exists(s.values, '$.* ? (@.type() != "string")')
        THEN
            verdict := 'corrupt';
            EXIT decide;
        END IF;
        at_version := s.version;
        IF substr(s.hash, 1, 36) = substr(p_hash, 1, 36) THEN
            verdict := 'sent twice';
            EXIT decide;
        END IF;
        IF s.sign_in <> p_sign_in THEN
            verdict := 'superseded';
            EXIT decide;
        END IF;
        IF s.fence <> p_expected_fence THEN
            verdict := 'conflict';
            EXIT decide;
        END IF;
        FOR i IN 1 .. coalesce(cardinality(p_expected_keys), 0) LOOP
            IF s.values ->> p_expected_keys[i] IS DISTINCT FROM p_expected_values[i] THEN
                verdict := 'conflict';
                EXIT decide;
            END IF;
        END LOOP;
        IF p_is_over_limit THEN
            verdict := 'over limit';
            EXIT decide;
        END IF;

        -- A record over a limit that was lowered may stay as it is, or shrink.
        p_max_keys := greatest(p_max_keys, s.keys);
        merged := CASE WHEN p_clear THEN '{}' ELSE s.values END;
        IF is_login AND jsonb_path_exists(merged, '$.keyvalue() ? (@.key starts with "~")') THEN
            writes := true;
            merged := merged - ARRAY(SELECT k FROM jsonb_object_keys(merged) k WHERE k LIKE '~%');
        END IF;
        IF writes THEN
            FOR i IN 1 .. coalesce(cardinality(p_added_keys), 0) LOOP
                culprit := p_added_keys[i];
                counter := coalesce(merged ->> culprit, '0');
                -- An integer as JSON writes it. It may be just too long for an i64.
                total := CASE
                    WHEN btrim(counter, E' \t\n\r') ~ '^(0|-?[1-9][0-9]{0,18})$' THEN counter::numeric
                END;
                IF total BETWEEN -9223372036854775808 AND 9223372036854775807 IS NOT TRUE THEN
                    verdict := 'not an integer';
                    EXIT decide;
                END IF;
                total := total + p_added[i];
                IF total NOT BETWEEN -9223372036854775808 AND 9223372036854775807 THEN
                    verdict := 'overflow';
                    EXIT decide;
                END IF;
                sums := sums || total::bigint;
                merged := merged || jsonb_build_object(culprit, total::text);
            END LOOP;
            merged := merged - coalesce(p_removed, '{}')
                || coalesce(jsonb_object(p_put_keys, p_put_values), '{}');
            SELECT count(*), coalesce(sum(octet_length(e.key) + octet_length(e.value)), 0)
            INTO s.keys, s.size
            FROM jsonb_each_text(merged) e;
        END IF;
        IF s.keys > p_max_keys THEN
            verdict := 'too many keys';
            amount := s.keys;
            EXIT decide;
        END IF;
        -- Only now are the values looked at: most sessions are far from the limit.
        IF s.size > p_max_size THEN
            amount := {counted}(merged);
            IF amount > greatest(p_max_size, {counted}(s.values)) THEN
                verdict := 'too large';
                EXIT decide;
            END IF;
        END IF;
        verdict := CASE
            WHEN NOT is_admitted THEN 'below floor' WHEN is_full THEN 'at cap' ELSE 'applied'
        END;
    END;

    IF verdict <> 'applied' THEN
        IF is_login THEN
            PERFORM {count}(p_realm, p_principal, 0, p_now);
        END IF;
        verdict := CASE verdict WHEN 'sent twice' THEN 'applied' ELSE verdict END;
        RETURN;
    END IF;
    IF substr(s.hash, 1, 36) = ANY (p_rehash_from) THEN
        is_rehashed := true;
        s.hash := p_rehash_to;
    END IF;
    s.absolute_end := coalesce(p_absolute, s.absolute_end);
    s.facts := coalesce(p_facts, s.facts);
    -- How far an idle life of the session's own lets its deadline move; see facts.rs of the core, whose
    -- forms 1 to 15 begin alike.
    IF length(s.facts) >= 18 AND get_byte(s.facts, 0) BETWEEN 1 AND 15 THEN
        latest_idle := p_now + nullif(
            ('x' || encode(substr(s.facts, 3, 8), 'hex'))::bit(64)::bigint, 0
        );
        IF p_facts IS NOT NULL THEN
            s.idle_end := least(s.idle_end, latest_idle);
        END IF;
    END IF;
    IF p_idle IS NOT NULL THEN
        p_idle := least(greatest(s.idle_end, least(p_idle, latest_idle)), s.absolute_end);
        IF is_touch AND NOT is_rehashed AND p_idle = s.idle_end THEN
            RETURN;
        END IF;
        s.idle_end := p_idle;
    ELSIF is_touch AND NOT is_rehashed THEN
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
    IF NOT is_touch OR is_rehashed THEN
        at_version := least(s.version, 9223372036854775806) + 1;
    END IF;
    UPDATE {sessions} t SET
        format = coalesce(p_format, greatest(s.format, 2)),
        hash = s.hash,
        replaced = s.replaced,
        replaced_until = s.replaced_until,
        version = at_version,
        -- Assigned as it is, a value that is kept out of line is not written again.
        values = CASE WHEN writes THEN merged ELSE t.values END,
        keys = s.keys,
        size = s.size,
        authenticated = coalesce(p_authenticated, s.authenticated),
        idle_end = s.idle_end,
        absolute_end = s.absolute_end,
        hour = least(s.idle_end, s.absolute_end) / 3600000,
        realm = coalesce(p_realm, s.realm),
        principal = coalesce(p_principal, s.principal),
        sign_in = s.sign_in + is_other_principal::integer,
        facts = CASE WHEN p_facts IS NULL THEN t.facts ELSE nullif(p_facts, '') END,
        owner = coalesce(p_owner, s.owner),
        fence = s.fence + (p_owner IS NOT NULL)::integer
    WHERE t.id = p_id;
    IF p_tells AND at_version <> s.version THEN
        told := {tell}(
            CASE WHEN is_other_principal THEN 'signed in' ELSE 'patched' END, ARRAY[p_id], at_version
        );
    END IF;
    IF is_other_principal AND former_principal IS NOT NULL THEN
        PERFORM {count}(former_realm, former_principal, -1, p_now);
    END IF;
    IF is_login THEN
        SELECT a.ended, a.expired, a.is_told OR told INTO ended, expired, is_told
        FROM {admit}(
            p_realm, p_principal, p_id, NOT is_other_principal, least(s.idle_end, s.absolute_end), p_cap,
            p_now, p_tells
        ) a;
        RETURN;
    END IF;
    is_told := told;
    IF is_authentication AND former_principal IS NOT NULL THEN
        -- Its deadline may be earlier than it was.
        UPDATE {principals} p SET expires = least(s.idle_end, s.absolute_end)
        WHERE p.realm = former_realm AND p.id = former_principal
            AND p.expires > least(s.idle_end, s.absolute_end);
    END IF;
END
$$;

-- Ends a record, on these terms.
CREATE FUNCTION {end}(
    p_id uuid, p_now bigint, p_tells boolean, p_proof bytea[], p_sign_in bigint, p_reason text,
    OUT verdict text, OUT is_told boolean, OUT unknown_key bytea
) LANGUAGE plpgsql SET lock_timeout = '400ms' AS $$
DECLARE
    former_realm text;
    former_principal text;
    s {sessions}%ROWTYPE;
    shown boolean;
BEGIN
    is_told := false;
    verdict := 'gone';
    SELECT t.realm, t.principal INTO former_realm, former_principal FROM {sessions} t WHERE t.id = p_id;
    IF former_principal IS NOT NULL THEN
        PERFORM {lock}(former_realm, former_principal);
    END IF;
    SELECT * INTO s FROM {sessions} t WHERE t.id = p_id FOR UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF (s.realm, s.principal) IS DISTINCT FROM (former_realm, former_principal) THEN
        RAISE 'a login came first' USING ERRCODE = 'serialization_failure';
    END IF;
    verdict := CASE WHEN least(s.idle_end, s.absolute_end) > p_now THEN 'ended' ELSE 'expired' END;
    IF p_proof IS NOT NULL THEN
        shown := {judge}(p_proof, s.hash);
        IF shown IS NULL THEN
            unknown_key := s.hash;
        ELSIF NOT shown AND p_now < s.replaced_until THEN
            shown := NULLIF({judge}(p_proof, s.replaced), false);
            unknown_key := CASE WHEN {judge}(p_proof, s.replaced) IS NULL THEN s.replaced END;
            IF shown THEN
                verdict := CASE verdict WHEN 'ended' THEN 'superseded' ELSE 'gone' END;
                RETURN;
            END IF;
        END IF;
        IF shown IS NOT TRUE THEN
            verdict := CASE
                WHEN verdict = 'ended' AND unknown_key IS NOT NULL THEN 'unknown key' ELSE 'gone'
            END;
            RETURN;
        END IF;
    END IF;
    IF s.sign_in <> p_sign_in THEN
        verdict := CASE verdict WHEN 'ended' THEN 'superseded' ELSE 'gone' END;
        RETURN;
    END IF;
    DELETE FROM {sessions} t WHERE t.id = p_id;
    IF verdict = 'expired' THEN
        INSERT INTO {endings} (id, realm, principal, reason, at)
        SELECT p_id, s.realm, s.principal, 'expired', least(s.idle_end, s.absolute_end) WHERE {keeps}()
        ON CONFLICT DO NOTHING;
    END IF;
    IF p_tells THEN
        is_told := {tell}(
            CASE verdict WHEN 'ended' THEN 'ended ' || p_reason ELSE 'ended expired' END, ARRAY[p_id],
            NULL
        );
    END IF;
    IF s.principal IS NOT NULL THEN
        PERFORM {count}(s.realm, s.principal, -1, p_now);
    END IF;
END
$$;

CREATE FUNCTION {end_all}(
    p_realm text, p_principal text, p_now bigint, p_tells boolean,
    p_except uuid, p_epoch bigint, p_floor_until bigint, p_reason text,
    OUT ended bigint, OUT expired uuid[], OUT is_told boolean
) LANGUAGE plpgsql SET lock_timeout = '400ms' AS $$
DECLARE
    live uuid[];
    told boolean;
BEGIN
    PERFORM {lock}(p_realm, p_principal);
    IF p_epoch IS NOT NULL THEN
        UPDATE {principals} p SET
            floor = CASE WHEN p.floor_until > p_now THEN greatest(p.floor, p_epoch) ELSE p_epoch END,
            floor_until = greatest(p.floor_until, p_floor_until)
        WHERE p.realm = p_realm AND p.id = p_principal;
    END IF;
    WITH gone AS (
        DELETE FROM {sessions} s
        WHERE s.realm = p_realm AND s.principal = p_principal AND s.id IS DISTINCT FROM p_except
        RETURNING s.id, least(s.idle_end, s.absolute_end) AS at,
            least(s.idle_end, s.absolute_end) > p_now AS is_live
    ), kept AS (
        INSERT INTO {endings} (id, realm, principal, reason, at)
        SELECT g.id, p_realm, p_principal, 'expired', g.at FROM gone g WHERE NOT g.is_live AND {keeps}()
        ON CONFLICT DO NOTHING
    )
    SELECT count(*) FILTER (WHERE g.is_live), array_agg(g.id) FILTER (WHERE NOT g.is_live),
        array_agg(g.id) FILTER (WHERE g.is_live)
    INTO ended, expired, live
    FROM gone g;
    is_told := p_tells AND {tell}('ended ' || p_reason, live, NULL);
    told := p_tells AND {tell}('ended expired', expired, NULL);
    is_told := is_told OR told;
    PERFORM {count}(
        p_realm, p_principal, (-ended - coalesce(cardinality(expired), 0))::integer, p_now
    );
END
$$;

-- Ends records that expired, at most so many, and leaves alone what others have in hand: another node that
-- collects, or a request. Forgets floors that nobody needs any more.
CREATE FUNCTION {collect}(
    p_due bigint, p_limit bigint, p_known integer, p_tells boolean,
    OUT expired uuid[], OUT is_told boolean, OUT is_all boolean
) LANGUAGE plpgsql AS $$
DECLARE
    due uuid[];
    realms text[];
    principals text[];
    counts integer[];
BEGIN
    SELECT array_agg(d.id) INTO due FROM (
        SELECT s.id FROM {sessions} s
        WHERE s.hour <= p_due / 3600000 AND least(s.idle_end, s.absolute_end) <= p_due
            AND s.format <= p_known
        ORDER BY s.hour LIMIT p_limit
    ) d;
    is_all := coalesce(cardinality(due), 0) < p_limit;
    SELECT array_agg(p.realm), array_agg(p.id) INTO realms, principals FROM (
        SELECT p.realm, p.id FROM {principals} p
        WHERE (p.realm, p.id) IN (
            SELECT s.realm, s.principal FROM {sessions} s WHERE s.id = ANY (due)
        )
        ORDER BY p.realm, p.id FOR UPDATE SKIP LOCKED
    ) p;
    WITH free AS (
        SELECT s.id FROM {sessions} s
        WHERE s.id = ANY (due) AND least(s.idle_end, s.absolute_end) <= p_due AND (
            s.principal IS NULL
            OR (s.realm, s.principal) IN (SELECT * FROM unnest(realms, principals))
            OR NOT EXISTS (
                SELECT FROM {principals} p WHERE p.realm = s.realm AND p.id = s.principal
            )
        )
        FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM {sessions} s USING free WHERE s.id = free.id
        RETURNING s.id, s.realm, s.principal, least(s.idle_end, s.absolute_end) AS at
    ), kept AS (
        INSERT INTO {endings} (id, realm, principal, reason, at)
        SELECT g.id, g.realm, g.principal, 'expired', g.at FROM gone g WHERE {keeps}()
        ON CONFLICT DO NOTHING
    ), counted AS (
        SELECT g.realm, g.principal, count(*) AS sessions, array_agg(g.id) AS ids
        FROM gone g GROUP BY g.realm, g.principal
    )
    SELECT array_agg(c.realm) FILTER (WHERE c.realm IS NOT NULL),
        array_agg(c.principal) FILTER (WHERE c.realm IS NOT NULL),
        array_agg(c.sessions::integer) FILTER (WHERE c.realm IS NOT NULL),
        (SELECT array_agg(g.id) FROM gone g)
    INTO realms, principals, counts, expired
    FROM counted c;
    PERFORM {count}(c.realm, c.principal, -c.sessions, p_due)
    FROM unnest(realms, principals, counts) AS c (realm, principal, sessions)
    ORDER BY c.realm, c.principal;
    is_told := p_tells AND {tell}('ended expired', expired, NULL);

    WITH lapsed AS (
        SELECT p.realm, p.id FROM {principals} p WHERE p.floor_until <= p_due
        LIMIT p_limit FOR UPDATE SKIP LOCKED
    ), kept AS (
        UPDATE {principals} p SET floor = NULL, floor_until = NULL FROM lapsed l
        WHERE p.realm = l.realm AND p.id = l.id AND p.sessions > 0
    )
    DELETE FROM {principals} p USING lapsed l
    WHERE p.realm = l.realm AND p.id = l.id AND p.sessions <= 0;

    -- In one statement: what it sees was told before it saw that nobody listens.
    DELETE FROM {changes}
    WHERE NOT EXISTS (SELECT FROM {listeners} l WHERE l.until > clock_timestamp());
END
$$;
