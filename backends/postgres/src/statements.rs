//! The statements, one for each operation.

use crate::names::Names;

/// The statements of a store, with its names in them.
pub(crate) struct Statements {
    pub(crate) create: String,
    pub(crate) load: String,
    pub(crate) patch: String,
    pub(crate) delete: String,
    pub(crate) list: String,
    pub(crate) end_all: String,
    pub(crate) collect: String,
    pub(crate) collect_principals: String,
    pub(crate) scan: String,
    pub(crate) stats: String,
    /// Where changes are told, if they are.
    pub(crate) channel: Option<String>,
}

impl Statements {
    pub(crate) fn new(names: &Names, tells: bool) -> Self {
        Self {
            create: names.fill(CREATE),
            load: names.fill(LOAD),
            patch: names.fill(PATCH),
            delete: names.fill(DELETE),
            list: names.fill(LIST),
            end_all: names.fill(END_ALL),
            collect: names.fill(COLLECT),
            collect_principals: names.fill(COLLECT_PRINCIPALS),
            scan: names.fill(SCAN),
            stats: names.fill(STATS),
            channel: tells.then(|| names.channel()),
        }
    }
}

#[cfg(test)]
pub(crate) const ALL: &[&str] =
    &[CREATE, LOAD, PATCH, DELETE, LIST, END_ALL, COLLECT, COLLECT_PRINCIPALS, SCAN, STATS];

const CREATE: &str =
    "SELECT verdict, at_version, ended FROM {create}($1, $2, $3, $4, $5, $6, $7, $8, $9,
    $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)";

const LOAD: &str =
    "SELECT id, hash, replaced, replaced_until, version, values::text, created, authenticated,
    idle_deadline, absolute_deadline, realm, principal, owner, fence
    FROM {sessions} WHERE id = $1";

const SCAN: &str =
    "SELECT id, hash, replaced, replaced_until, version, values::text, created, authenticated,
    idle_deadline, absolute_deadline, realm, principal, owner, fence
    FROM {sessions} WHERE $1::uuid IS NULL OR id > $1 ORDER BY id LIMIT $2";

const PATCH: &str = "SELECT verdict, at_version, sums, ended, culprit, amount FROM {patch}($1, $2, $3, $4, $5,
    $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26)";

/// Compares with the hash on the server: who could learn a hash from how long that takes would learn
/// nothing that opens a record.
const DELETE: &str = "WITH gone AS (
        DELETE FROM {sessions} WHERE id = $1 AND ($2::bytea[] IS NULL OR hash = ANY ($2))
        RETURNING id, least(idle_deadline, absolute_deadline) > $3 AS is_live
    )
    SELECT is_live, CASE WHEN $4::text IS NOT NULL THEN pg_notify($4, 'ended ' || id)::text END FROM gone";

const LIST: &str = "SELECT id, created, authenticated, least(idle_deadline, absolute_deadline)
    FROM {sessions}
    WHERE realm = $1 AND principal = $2 AND least(idle_deadline, absolute_deadline) > $3";

const END_ALL: &str = "SELECT ended, expired FROM {end_all}($1, $2, $3, $4, $5, $6, $7)";

/// Leaves rows alone that somebody else has locked: another node that collects, or a request.
const COLLECT: &str = "WITH due AS (
        SELECT id FROM {sessions}
        WHERE hour <= $1 / 3600000 AND least(idle_deadline, absolute_deadline) <= $1
        ORDER BY hour LIMIT $2 FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM {sessions} s USING due WHERE s.id = due.id RETURNING s.id
    )
    SELECT id, CASE WHEN $3::text IS NOT NULL THEN pg_notify($3, 'ended ' || id)::text END FROM gone";

const COLLECT_PRINCIPALS: &str = "WITH due AS (
        SELECT realm, id FROM {principals} WHERE hour <= $1 / 3600000
        LIMIT $2 FOR UPDATE SKIP LOCKED
    )
    DELETE FROM {principals} p USING due WHERE p.realm = due.realm AND p.id = due.id
    RETURNING 1";

const STATS: &str =
    "SELECT count(*), count(principal), coalesce(sum(bytes), 0)::bigint FROM {sessions}";
