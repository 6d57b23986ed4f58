//! The names of objects in the database.

/// The schema and the table of a store. Its other objects are named after the table.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    schema: String,
    table: String,
}

impl Names {
    pub(crate) fn new(schema: &str, table: &str) -> Result<Self, NameError> {
        for name in [schema, table] {
            if !is_plain(name) {
                return Err(NameError { name: name.to_owned() });
            }
        }
        Ok(Self { schema: schema.to_owned(), table: table.to_owned() })
    }

    /// Replaces `{…}` in a statement with these names. They are quoted, because a name may also be
    /// a keyword.
    pub(crate) fn fill(&self, sql: &str) -> String {
        let Self { schema, table } = self;
        let mut filled = sql
            .replace("{schema}", &format!("\"{schema}\""))
            .replace("{sessions}", &format!("\"{schema}\".\"{table}\""));
        for suffix in INDEXES {
            filled = filled.replace(&format!("{{{suffix}}}"), &format!("\"{table}_{suffix}\""));
        }
        for suffix in OTHERS {
            let name = format!("\"{schema}\".\"{table}_{suffix}\"");
            filled = filled.replace(&format!("{{{suffix}}}"), &name);
        }
        filled
    }

    pub(crate) fn schema(&self) -> &str {
        &self.schema
    }

    /// Returns the statement that grants a role the missing privilege, for an object of a kind and
    /// a name.
    pub(crate) fn grant(&self, denied: Option<(&str, &str)>, role: &str) -> String {
        let schema = &self.schema;
        match denied {
            Some(("table", name)) if name.ends_with("_migrations") => {
                format!("GRANT SELECT ON \"{schema}\".\"{name}\" TO \"{role}\"")
            }
            Some(("table", name)) => format!(
                "GRANT SELECT, INSERT, UPDATE, DELETE ON \"{schema}\".\"{name}\" TO \"{role}\""
            ),
            Some(("function", name)) => {
                format!("GRANT EXECUTE ON FUNCTION \"{schema}\".\"{name}\" TO \"{role}\"")
            }
            Some(("schema", name)) => format!("GRANT USAGE ON SCHEMA \"{name}\" TO \"{role}\""),
            // The message is in another language, or concerns an object that is not ours.
            _ => format!("see the documentation for what {role:?} needs in the schema {schema:?}"),
        }
    }

    /// Returns the channel for notifications of changes.
    pub(crate) fn channel(&self) -> String {
        format!("{}.{}", self.schema, self.table)
    }
}

/// The name of a schema or a table is malformed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not 1 to {LONGEST} of the characters a-z 0-9 _, not starting with a digit")]
#[non_exhaustive]
pub struct NameError {
    /// The given name.
    pub name: String,
}

fn is_plain(name: &str) -> bool {
    (1..=LONGEST).contains(&name.len())
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// Two names and a dot make up a channel name, which PostgreSQL limits to 63 bytes.
const LONGEST: usize = 31;

/// Indexes and constraints. Both are named without their schema or table.
const INDEXES: [&str; 10] = [
    "sessions_hour",
    "sessions_principal",
    "principals_hour",
    "principals_floor",
    "changes_xid",
    "endings_free",
    "endings_at",
    "keepers_key",
    "hash_check",
    "replaced_check",
];

const OTHERS: [&str; 23] = [
    "principals",
    "migrations",
    "changes",
    "listeners",
    "endings",
    "keepers",
    "keeps",
    "claim",
    "judge",
    "lock",
    "count",
    "tell",
    "counted",
    "admits",
    "admit",
    "is_full",
    "create",
    "patch",
    "end",
    "end_all",
    "collect",
    // Created by release 0.1.
    "lock_excess",
    "end_excess",
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows IN-02.
    #[test]
    fn a_name_is_a_short_plain_word() {
        for good in ["s", "sessions", "_a1", &"s".repeat(31)] {
            assert!(Names::new(good, good).is_ok(), "{good}");
        }
        let long = "s".repeat(32);
        for bad in ["", "a\"; drop table x;--", "a*", "{}", "a b", "1a", "A", "\u{e9}", &long] {
            assert_eq!(Names::new("s", bad).unwrap_err().name, bad);
            assert_eq!(Names::new(bad, "s").unwrap_err().name, bad);
        }
    }

    #[test]
    fn a_statement_gets_its_names_quoted() {
        let names = Names::new("web", "logins").unwrap();
        let filled = names.fill("{schema} {sessions} {principals} {sessions_hour} {end_all}");
        let expected = r#""web" "web"."logins" "web"."logins_principals" "logins_sessions_hour" "web"."logins_end_all""#;
        assert_eq!(filled, expected);
        assert_eq!(names.channel(), "web.logins");
    }

    #[test]
    fn every_name_of_a_statement_is_known() {
        let names = Names::new("s", "t").unwrap();
        let statements = crate::statements::ALL.iter().map(|(sql, _)| sql);
        for sql in crate::schema::MIGRATIONS.iter().chain(statements) {
            let filled = names.fill(sql);
            let mut braces = filled.split('{').skip(1);
            assert!(!braces.any(|name| name.starts_with(|c: char| c.is_ascii_lowercase())));
        }
    }
}
