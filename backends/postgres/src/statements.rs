//! The statements, one for each operation.

use postgres_types::Type;

use crate::connection::Statement;
use crate::names::Names;

/// The statements of a store, with its names in them.
pub(crate) struct Statements {
    pub(crate) create: Statement,
    pub(crate) load: Statement,
    pub(crate) patch: Statement,
    pub(crate) delete: Statement,
    pub(crate) list: Statement,
    pub(crate) end_all: Statement,
    pub(crate) collect: Statement,
    pub(crate) collect_principals: Statement,
    pub(crate) scan: Statement,
    pub(crate) stats: Statement,
    /// Where changes are told, if they are.
    pub(crate) channel: Option<String>,
}

impl Statements {
    pub(crate) fn new(names: &Names, tells: bool) -> Self {
        let statement = |number, sql: &str, types| {
            let (sql, name) = (names.fill(sql), format!("s{number}"));
            Statement { number, name, sql, types }
        };
        Self {
            create: statement(0, CREATE, CREATE_TYPES),
            load: statement(1, LOAD, &[Type::UUID]),
            patch: statement(2, PATCH, PATCH_TYPES),
            delete: statement(3, DELETE, DELETE_TYPES),
            list: statement(4, LIST, &[Type::TEXT, Type::TEXT, Type::INT8]),
            end_all: statement(5, END_ALL, END_ALL_TYPES),
            collect: statement(6, COLLECT, &[Type::INT8, Type::INT8, Type::TEXT]),
            collect_principals: statement(7, COLLECT_PRINCIPALS, &[Type::INT8, Type::INT8]),
            scan: statement(8, SCAN, &[Type::UUID, Type::INT8]),
            stats: statement(9, STATS, &[]),
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

const CREATE_TYPES: &[Type] = &[
    Type::UUID,
    Type::INT8,
    Type::TEXT,
    Type::BYTEA,
    Type::BYTEA,
    Type::INT8,
    Type::INT8,
    Type::TEXT_ARRAY,
    Type::TEXT_ARRAY,
    Type::INT4,
    Type::INT8,
    Type::INT8,
    Type::INT8,
    Type::INT8,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT,
    Type::INT8,
    Type::INT8,
    Type::INT8,
];

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

const PATCH_TYPES: &[Type] = &[
    Type::UUID,
    Type::INT8,
    Type::TEXT,
    Type::BYTEA_ARRAY,
    Type::TEXT_ARRAY,
    Type::TEXT_ARRAY,
    Type::INT8,
    Type::BOOL,
    Type::BOOL,
    Type::TEXT_ARRAY,
    Type::TEXT_ARRAY,
    Type::TEXT_ARRAY,
    Type::TEXT_ARRAY,
    Type::INT8_ARRAY,
    Type::INT8,
    Type::INT8,
    Type::BYTEA,
    Type::INT8,
    Type::INT8,
    Type::INT8,
    Type::TEXT,
    Type::TEXT,
    Type::INT8,
    Type::INT8,
    Type::INT8,
    Type::TEXT,
];

/// Compares with the hash on the server: who could learn a hash from how long that takes would learn
/// nothing that opens a record.
const DELETE: &str = "WITH gone AS (
        DELETE FROM {sessions} WHERE id = $1 AND ($2::bytea[] IS NULL OR hash = ANY ($2))
        RETURNING id, least(idle_deadline, absolute_deadline) > $3 AS is_live
    )
    SELECT is_live, CASE WHEN $4::text IS NOT NULL THEN pg_notify($4, 'ended ' || id)::text END FROM gone";

const DELETE_TYPES: &[Type] = &[Type::UUID, Type::BYTEA_ARRAY, Type::INT8, Type::TEXT];

const LIST: &str = "SELECT id, created, authenticated, least(idle_deadline, absolute_deadline)
    FROM {sessions}
    WHERE realm = $1 AND principal = $2 AND least(idle_deadline, absolute_deadline) > $3";

const END_ALL: &str = "SELECT ended, expired FROM {end_all}($1, $2, $3, $4, $5, $6, $7)";

const END_ALL_TYPES: &[Type] =
    &[Type::TEXT, Type::TEXT, Type::UUID, Type::INT8, Type::INT8, Type::INT8, Type::TEXT];

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
