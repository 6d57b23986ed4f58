//! The URL of a store, and the settings in its query.

use std::num::NonZeroU64;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use steadfast_core::Budget;

use super::error::ConnectError;

/// A store's URL, taken apart: `scheme:address?name=value&…`.
pub(super) struct Url {
    pub(super) scheme: String,
    pub(super) address: String,
    settings: Vec<(String, String)>,
    known: Vec<&'static str>,
}

impl Url {
    pub(super) fn parse(url: &str) -> Result<Self, ConnectError> {
        // A line that was read from a file or a variable may end with its break.
        let (scheme, rest) = url.trim().split_once(':').ok_or(ConnectError::NoScheme)?;
        let is_part = |b: u8| b.is_ascii_alphanumeric() || b"+-.".contains(&b);
        if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.bytes().all(is_part) {
            return Err(ConnectError::NoScheme);
        }
        let scheme = scheme.to_ascii_lowercase();
        let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let settings = pairs.map(setting).collect::<Option<Vec<_>>>();
        let Some(settings) = settings else { return Err(ConnectError::Encoding { scheme }) };
        let names: Vec<_> = settings.iter().map(|(name, _)| name).collect();
        if let Some(at) = (1..names.len()).find(|at| names[..*at].contains(&names[*at])) {
            return Err(ConnectError::Repeated { name: names[at].clone() });
        }
        Ok(Self { scheme, address: address.to_owned(), settings, known: Vec::new() })
    }

    /// Checks that there is no address, for a store that has none.
    pub(super) fn has_no_address(&self) -> Result<(), ConnectError> {
        match self.address.as_str() {
            "" | "//" => Ok(()),
            _ => Err(ConnectError::Address { scheme: self.scheme.clone() }),
        }
    }

    /// Takes a setting out, if it is there.
    pub(super) fn take<T: FromStr>(
        &mut self,
        name: &'static str,
        wants: &'static str,
    ) -> Result<Option<T>, ConnectError> {
        self.known.push(name);
        let Some(at) = self.settings.iter().position(|(given, _)| given == name) else {
            return Ok(None);
        };
        let (_, value) = self.settings.swap_remove(at);
        value.parse().map(Some).map_err(|_| ConnectError::Setting { name, wants })
    }

    /// Takes the budgets of a store in memory out, for anonymous sessions and for authenticated ones.
    pub(super) fn take_budgets(&mut self) -> Result<[Budget; 2], ConnectError> {
        Ok([
            self.take_budget(Budget::ANONYMOUS, "anonymous-records", "anonymous-bytes")?,
            self.take_budget(
                Budget::AUTHENTICATED,
                "authenticated-records",
                "authenticated-bytes",
            )?,
        ])
    }

    fn take_budget(
        &mut self,
        default: Budget,
        records: &'static str,
        bytes: &'static str,
    ) -> Result<Budget, ConnectError> {
        let mut number = |name| self.take::<NonZeroU64>(name, "a whole number from 1");
        Ok(Budget {
            records: number(records)?.map_or(default.records, NonZeroU64::get),
            bytes: number(bytes)?.map_or(default.bytes, NonZeroU64::get),
        })
    }

    /// Checks that no setting is left, after the store has taken all that it knows.
    pub(super) fn has_no_other_setting(mut self) -> Result<(), ConnectError> {
        self.settings.pop().map_or(Ok(()), |(name, _)| {
            Err(ConnectError::UnknownSetting { scheme: self.scheme, name, known: self.known })
        })
    }
}

/// A setting that is `yes` or `no`.
pub(super) struct YesNo(pub(super) bool);

impl FromStr for YesNo {
    type Err = ();

    fn from_str(answer: &str) -> Result<Self, ()> {
        match answer {
            "yes" => Ok(Self(true)),
            "no" => Ok(Self(false)),
            _ => Err(()),
        }
    }
}

/// Parses one setting. A name that is not a plain word may be part of a password, so it is refused.
fn setting(pair: &str) -> Option<(String, String)> {
    let (name, value) = pair.split_once('=')?;
    let is_part = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if name.is_empty() || !name.bytes().all(is_part) {
        return None;
    }
    let value = percent_decode_str(value).decode_utf8().ok()?;
    Some((name.to_owned(), value.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nested_url_is_decoded_unchanged() {
        let url = "sticky:?backup=redis%2Bsentinel://h:1,h:2/a%3Fb=c%26d=%25&x=1+1";
        let url = Url::parse(url).unwrap();
        assert_eq!(url.settings[0].1, "redis+sentinel://h:1,h:2/a?b=c&d=%");
        assert_eq!(url.settings[1].1, "1+1");
    }

    #[test]
    fn a_url_may_name_several_hosts() {
        let url = Url::parse("postgres://u:p@h1:5432,h2:5432/db?sslmode=require").unwrap();
        assert_eq!(
            (url.scheme.as_str(), url.address.as_str()),
            ("postgres", "//u:p@h1:5432,h2:5432/db")
        );
    }
}
