//! The statements, one for each operation.

use postgres_types::Type;

use crate::connection::Statement;
use crate::names::Names;

/// The statements of a store, with its names filled in.
pub(crate) struct Statements {
    pub(crate) create: Statement,
    pub(crate) load: Statement,
    pub(crate) patch: Statement,
    pub(crate) end: Statement,
    pub(crate) list: Statement,
    pub(crate) end_all: Statement,
    pub(crate) collect: Statement,
    pub(crate) scan: Statement,
    pub(crate) stats: Statement,
    pub(crate) claim: Statement,
    pub(crate) acknowledge: Statement,
    pub(crate) feed: Feed,
}

/// The statements of the change feed.
#[derive(Clone)]
pub(crate) struct Feed {
    pub(crate) register: Statement,
    pub(crate) writers: Statement,
    pub(crate) are_writing: Statement,
    pub(crate) poll: Statement,
    pub(crate) renew: Statement,
    pub(crate) forget: Statement,
    pub(crate) ring: Statement,
    /// The channel on which listeners are notified.
    pub(crate) channel: String,
}

impl Statements {
    pub(crate) fn new(names: &Names) -> Self {
        let statement = |number: u8, sql| statement(names, number, sql);
        Self {
            create: statement(0, CREATE),
            load: statement(1, LOAD),
            patch: statement(2, PATCH),
            end: statement(3, END),
            list: statement(4, LIST),
            end_all: statement(5, END_ALL),
            collect: statement(6, COLLECT),
            scan: statement(7, SCAN),
            stats: statement(8, STATS),
            claim: statement(16, CLAIM),
            acknowledge: statement(17, ACKNOWLEDGE),
            feed: Feed {
                register: statement(9, REGISTER),
                writers: statement(10, WRITERS),
                are_writing: statement(11, ARE_WRITING),
                poll: statement(12, POLL),
                renew: statement(13, RENEW),
                forget: statement(14, FORGET),
                ring: statement(15, RING),
                channel: names.channel(),
            },
        }
    }

    /// Returns all statements.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Statement> {
        let Feed { register, writers, are_writing, poll, renew, forget, ring, channel: _ } =
            &self.feed;
        let calls = [&self.create, &self.load, &self.patch, &self.end, &self.list, &self.end_all];
        let upkeep = [&self.collect, &self.scan, &self.stats, &self.claim, &self.acknowledge];
        let feed = [register, writers, are_writing, poll, renew, forget, ring];
        calls.into_iter().chain(upkeep).chain(feed)
    }
}

fn statement(names: &Names, number: u8, (sql, takes): Sql) -> Statement {
    let parameters = (1..).zip(takes).map(|(n, (name, _))| format!("p_{name} => ${n}"));
    let parameters = parameters.collect::<Vec<_>>().join(", ");
    let sql = names.fill(&sql.replace("(…)", &format!("({parameters})")));
    Statement { number, name: format!("s{number}"), sql, takes: takes.to_vec() }
}

#[cfg(test)]
pub(crate) const ALL: &[Sql] = &[
    CREATE,
    LOAD,
    PATCH,
    END,
    LIST,
    END_ALL,
    COLLECT,
    SCAN,
    STATS,
    CLAIM,
    ACKNOWLEDGE,
    REGISTER,
    WRITERS,
    ARE_WRITING,
    POLL,
    RENEW,
    FORGET,
    RING,
];

/// The text of a statement, and its parameters by name. `(…)` in the text stands for all
/// parameters.
type Sql = (&'static str, &'static [(&'static str, Type)]);

const CREATE: Sql = (
    "SELECT verdict, at_version, ended, expired, is_told FROM {create}(…)",
    &[
        ("id", Type::UUID),
        ("now", Type::INT8),
        ("tells", Type::BOOL),
        ("format", Type::INT4),
        ("hash", Type::BYTEA),
        ("replaced", Type::BYTEA),
        ("replaced_until", Type::INT8),
        ("version", Type::INT8),
        ("keys", Type::TEXT_ARRAY),
        ("values", Type::TEXT_ARRAY),
        ("size", Type::INT4),
        ("created", Type::INT8),
        ("authenticated", Type::INT8),
        ("idle", Type::INT8),
        ("absolute", Type::INT8),
        ("realm", Type::TEXT),
        ("principal", Type::TEXT),
        ("sign_in", Type::INT8),
        ("facts", Type::BYTEA),
        ("owner", Type::TEXT),
        ("fence", Type::INT8),
        ("cap", Type::INT8),
        ("epoch", Type::INT8),
        ("refuses", Type::BOOL),
    ],
);

const LOAD: Sql = (
    "SELECT id, format, hash, replaced, replaced_until, version, values::text, created, \
            authenticated, idle_end, absolute_end, realm, principal, sign_in, facts, owner, fence \
        FROM {sessions} WHERE id = $1",
    &[("id", Type::UUID)],
);

const PATCH: Sql = (
    "SELECT verdict, at_version, sums, ended, expired, is_told, culprit, amount, unknown_key \
        FROM {patch}(…)",
    &[
        ("id", Type::UUID),
        ("now", Type::INT8),
        ("tells", Type::BOOL),
        ("known", Type::INT4),
        ("format", Type::INT4),
        ("proof", Type::BYTEA_ARRAY),
        ("sign_in", Type::INT8),
        ("expected_keys", Type::TEXT_ARRAY),
        ("expected_values", Type::TEXT_ARRAY),
        ("expected_fence", Type::INT8),
        ("is_over_limit", Type::BOOL),
        ("clear", Type::BOOL),
        ("put_keys", Type::TEXT_ARRAY),
        ("put_values", Type::TEXT_ARRAY),
        ("removed", Type::TEXT_ARRAY),
        ("added_keys", Type::TEXT_ARRAY),
        ("added", Type::INT8_ARRAY),
        ("max_keys", Type::INT8),
        ("max_size", Type::INT8),
        ("rehash_from", Type::BYTEA_ARRAY),
        ("rehash_to", Type::BYTEA),
        ("hash", Type::BYTEA),
        ("replaced_until", Type::INT8),
        ("authenticated", Type::INT8),
        ("absolute", Type::INT8),
        ("facts", Type::BYTEA),
        ("realm", Type::TEXT),
        ("principal", Type::TEXT),
        ("cap", Type::INT8),
        ("epoch", Type::INT8),
        ("refuses", Type::BOOL),
        ("idle", Type::INT8),
        ("owner", Type::TEXT),
    ],
);

const END: Sql = (
    "SELECT verdict, is_told, unknown_key FROM {end}(…)",
    &[
        ("id", Type::UUID),
        ("now", Type::INT8),
        ("tells", Type::BOOL),
        ("proof", Type::BYTEA_ARRAY),
        ("sign_in", Type::INT8),
        ("reason", Type::TEXT),
    ],
);

const LIST: Sql = (
    "SELECT id, created, authenticated, least(idle_end, absolute_end), idle_end, facts \
        FROM {sessions} WHERE realm = $1 AND principal = $2 AND least(idle_end, absolute_end) > $3",
    &[("realm", Type::TEXT), ("principal", Type::TEXT), ("now", Type::INT8)],
);

const END_ALL: Sql = (
    "SELECT ended, expired, is_told FROM {end_all}(…)",
    &[
        ("realm", Type::TEXT),
        ("principal", Type::TEXT),
        ("now", Type::INT8),
        ("tells", Type::BOOL),
        ("except", Type::UUID),
        ("epoch", Type::INT8),
        ("floor_until", Type::INT8),
        ("reason", Type::TEXT),
    ],
);

const COLLECT: Sql = (
    "SELECT expired, is_told, is_all FROM {collect}(…)",
    &[("due", Type::INT8), ("limit", Type::INT8), ("known", Type::INT4), ("tells", Type::BOOL)],
);

const SCAN: Sql = (
    "SELECT id, format, hash, replaced, replaced_until, version, values::text, created, \
            authenticated, idle_end, absolute_end, realm, principal, sign_in, facts, owner, fence \
        FROM {sessions} WHERE $1 IS NULL OR id > $1 ORDER BY id LIMIT $2",
    &[("after", Type::UUID), ("limit", Type::INT8)],
);

const STATS: Sql =
    ("SELECT count(*), count(principal), coalesce(sum(size), 0)::bigint FROM {sessions}", &[]);

const CLAIM: Sql = (
    "SELECT id, realm, principal, reason, at FROM {claim}(…)",
    &[("now", Type::INT8), ("until", Type::INT8), ("limit", Type::INT8)],
);

const ACKNOWLEDGE: Sql =
    ("DELETE FROM {endings} WHERE id = ANY ($1)", &[("ids", Type::UUID_ARRAY)]);

/// A registration is valid for 30 s and is renewed every 10 s.
const REGISTER: Sql = (
    "INSERT INTO {listeners} VALUES ($1, clock_timestamp() + interval '30 s')",
    &[("listener", Type::UUID)],
);

/// Transactions that may have checked for listeners before this one was registered. They hold a
/// lock of the table until they end.
const WRITERS: Sql = (
    "SELECT pg_current_snapshot()::text, array_agg(DISTINCT virtualtransaction) FROM pg_locks \
        WHERE relation = '{sessions}'::regclass AND mode = 'RowExclusiveLock' \
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
    &[],
);

const ARE_WRITING: Sql = (
    "SELECT EXISTS (SELECT FROM pg_locks WHERE virtualtransaction = ANY ($1) \
            AND relation = '{sessions}'::regclass)",
    &[("writers", Type::TEXT_ARRAY)],
);

/// Selects the changes committed since the last poll: by transactions that were open then, and by
/// later ones.
const POLL: Sql = (
    "SELECT pg_current_snapshot()::text, l.until > clock_timestamp(), c.what, c.id, c.version \
        FROM (VALUES (1)) one LEFT JOIN {listeners} l ON l.id = $1 LEFT JOIN LATERAL ( \
            SELECT * FROM {changes} WHERE xid >= pg_snapshot_xmax($2::text::pg_snapshot) \
            UNION ALL SELECT * FROM {changes} \
            WHERE xid = ANY (ARRAY(SELECT pg_snapshot_xip($2::text::pg_snapshot))) \
        ) c ON true ORDER BY c.number",
    &[("listener", Type::UUID), ("seen", Type::TEXT)],
);

const RENEW: Sql = (
    "UPDATE {listeners} SET until = clock_timestamp() + interval '30 s' \
        WHERE id = $1 AND until > clock_timestamp() RETURNING true",
    &[("listener", Type::UUID)],
);

/// Deletes changes that all valid listeners have read, and expired listeners.
const FORGET: Sql = (
    "WITH gone AS (DELETE FROM {listeners} WHERE until < clock_timestamp() - interval '60 s') \
        DELETE FROM {changes} WHERE xid < pg_snapshot_xmin($1::text::pg_snapshot)",
    &[("seen", Type::TEXT)],
);

const RING: Sql = ("SELECT pg_notify($1, '')::text", &[("channel", Type::TEXT)]);
