//! Parses a `Set-Cookie` line (5.6).

use std::time::Duration;

use time::UtcDateTime;

use crate::date;
use crate::jar::Ignored;

/// A cookie as a line says it, before anything is known of who may set it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) name: Vec<u8>,
    pub(crate) value: Vec<u8>,
    pub(crate) attributes: Attributes,
}

/// The attributes of a cookie; of several of a name the last counts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) max_age: Option<UtcDateTime>,
    pub(crate) expires: Option<UtcDateTime>,
    /// The domain in lower case, without a leading dot.
    pub(crate) domain: Vec<u8>,
    pub(crate) path: Option<CookiePath>,
    pub(crate) secure: bool,
    pub(crate) http_only: bool,
    pub(crate) same_site: SameSite,
    pub(crate) partitioned: bool,
}

/// The parts of a `Path`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CookiePath {
    /// An invalid path: the request's directory is used.
    Default,
    /// A path.
    Given(Vec<u8>),
}

/// The requests from other sites that carry a cookie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SameSite {
    /// The line said nothing, or nothing that is known: as `Lax`.
    #[default]
    Default,
    /// Never.
    Strict,
    /// Only navigations by a safe method.
    Lax,
    /// Always.
    None,
}

impl Received {
    pub(crate) fn parse(line: &[u8], now: UtcDateTime) -> Result<Self, Ignored> {
        if line.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
            return Err(Ignored::Control);
        }
        let mut parts = line.split(|byte| *byte == b';');
        let pair = parts.next().unwrap_or_default();
        let (name, value) = split_at_equals(pair).unwrap_or((b"", trimmed(pair)));
        if name.len() + value.len() > MAX_NAME_AND_VALUE {
            return Err(Ignored::TooLong);
        }
        let mut attributes = Attributes::default();
        for part in parts {
            attributes.take(part, now);
        }
        Ok(Self { name: name.to_vec(), value: value.to_vec(), attributes })
    }
}

impl Attributes {
    /// The time at which the cookie expires; `None` for one that ends with the browser's session (5.7, step 6).
    pub(crate) fn expiry(&self) -> Option<UtcDateTime> {
        self.max_age.or(self.expires)
    }

    fn take(&mut self, part: &[u8], now: UtcDateTime) {
        let (name, value) = split_at_equals(part).unwrap_or((trimmed(part), b""));
        if value.len() > MAX_ATTRIBUTE {
            return;
        }
        match name.to_ascii_lowercase().as_slice() {
            b"expires" => {
                let limit = now.saturating_add(time::Duration::days(LIMIT_DAYS));
                self.expires = date::parse(value).map(|at| at.min(limit)).or(self.expires);
            }
            b"max-age" => self.max_age = max_age(value, now).or(self.max_age),
            b"domain" => {
                self.domain = value.strip_prefix(b".").unwrap_or(value).to_ascii_lowercase();
            }
            b"path" => self.path = Some(path(value)),
            b"secure" => self.secure = true,
            b"httponly" => self.http_only = true,
            b"samesite" => self.same_site = same_site(value),
            b"partitioned" => self.partitioned = true,
            _ => {}
        }
    }
}

/// Returns the end of a `Max-Age`, if it is valid (5.6.2).
fn max_age(value: &[u8], now: UtcDateTime) -> Option<UtcDateTime> {
    let digits = value.strip_prefix(b"-").unwrap_or(value);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let seconds = digits
        .iter()
        .fold(0_u64, |sum, digit| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0')));
    if digits.len() < value.len() || seconds == 0 {
        return Some(UtcDateTime::MIN);
    }
    let limit = Duration::from_secs(LIMIT_DAYS.unsigned_abs() * 24 * 60 * 60);
    let left = time::Duration::try_from(Duration::from_secs(seconds).min(limit)).ok()?;
    Some(now.saturating_add(left))
}

fn path(value: &[u8]) -> CookiePath {
    match value.starts_with(b"/") {
        true => CookiePath::Given(value.to_vec()),
        false => CookiePath::Default,
    }
}

fn same_site(value: &[u8]) -> SameSite {
    match value.to_ascii_lowercase().as_slice() {
        b"strict" => SameSite::Strict,
        b"lax" => SameSite::Lax,
        b"none" => SameSite::None,
        _ => SameSite::Default,
    }
}

/// The text before and after the first `=`, each without the white space around it.
fn split_at_equals(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|byte| *byte == b'=')?;
    Some((trimmed(&text[..at]), trimmed(&text[at + 1..])))
}

/// Trims spaces and tabs.
fn trimmed(text: &[u8]) -> &[u8] {
    let is_text = |byte: &u8| !matches!(byte, b' ' | b'\t');
    let start = text.iter().position(is_text).unwrap_or(text.len());
    let end = text.iter().rposition(is_text).map_or(start, |last| last + 1);
    &text[start..end]
}

const MAX_NAME_AND_VALUE: usize = 4096;
const MAX_ATTRIBUTE: usize = 1024;
/// The longest time for which a cookie is kept (5.5).
const LIMIT_DAYS: i64 = 400;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UtcDateTime = UtcDateTime::UNIX_EPOCH;

    /// RFC 6265bis, section 5.6.
    #[test]
    fn a_pair_is_split_at_its_first_separators() {
        for (line, name, value) in [
            ("a=b; Path=/", "a", "b"),
            (" a\t=\tb c ", "a", "b c"),
            ("a==b=", "a", "=b="),
            ("=b", "", "b"),
            ("b", "", "b"),
            ("a=", "a", ""),
            ("a=\"b;c\"", "a", "\"b"),
        ] {
            let received = parse(line).unwrap();
            assert_eq!((received.name, received.value), (name.into(), value.into()), "{line}");
        }
    }

    /// RFC 6265bis, section 5.6.
    #[test]
    fn control_characters_reject_a_cookie() {
        for line in ["a=\0", "a=b; Path=/\n", "a\x7f=b"] {
            assert_eq!(parse(line), Err(Ignored::Control));
        }
        assert!(parse("a=b\tc").is_ok());
    }

    /// RFC 6265bis, section 5.6.
    #[test]
    fn sizes_are_bounded() {
        assert!(parse(&format!("{}={}", "n".repeat(96), "v".repeat(4000))).is_ok());
        let long = format!("{}={}", "n".repeat(97), "v".repeat(4000));
        assert_eq!(parse(&long), Err(Ignored::TooLong));
        let path = |len| attributes(&format!("Path=/a; Path=/{}", "p".repeat(len))).path;
        assert_eq!(path(1024), Some(CookiePath::Given(b"/a".to_vec())));
        assert_ne!(path(1023), Some(CookiePath::Given(b"/a".to_vec())));
    }

    /// RFC 6265bis, section 5.6.1.
    #[test]
    fn expires_is_at_most_400_days_ahead() {
        let expires = |text: &str| attributes(&format!("expires={text}")).expires;
        let soon = expires("Thu, 01 Jan 1970 00:01:00 GMT");
        assert_eq!(soon.unwrap().unix_timestamp(), 60);
        assert_eq!(expires("1 Jan 2999 00:00:00").unwrap().unix_timestamp(), 34_560_000);
        assert_eq!(expires("tomorrow"), None);
    }

    /// RFC 6265bis, section 5.6.2.
    #[test]
    fn max_age_is_at_most_400_days() {
        let seconds = |text: &str| {
            let at = attributes(&format!("Max-Age={text}")).max_age;
            at.map(UtcDateTime::unix_timestamp)
        };
        assert_eq!(seconds("60"), Some(60));
        assert_eq!(seconds("99999999999999999999999"), Some(34_560_000));
        let dead = Some(UtcDateTime::MIN.unix_timestamp());
        assert_eq!([seconds("0"), seconds("-0"), seconds("-5")], [dead; 3]);
        for bad in ["", "-", "+1", "1.5", "1 0", "x"] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }

    /// RFC 6265bis, section 5.7.
    #[test]
    fn max_age_precedes_expires() {
        let both = attributes("Max-Age=60; Expires=1 Jan 1970 00:00:05");
        assert_eq!(both.expiry().unwrap().unix_timestamp(), 60);
    }

    /// RFC 6265bis, section 5.6.3.
    #[test]
    fn a_domain_is_normalized() {
        assert_eq!(attributes("domain=.Shop.Example").domain, b"shop.example");
        assert_eq!(attributes("Domain=a.example; DOMAIN=b.example").domain, b"b.example");
    }

    /// RFC 6265bis, section 5.6.4.
    #[test]
    fn a_path_begins_with_a_slash() {
        assert_eq!(attributes("Path=a").path, Some(CookiePath::Default));
        assert_eq!(attributes("Path").path, Some(CookiePath::Default));
        assert_eq!(attributes("PATH=/a b").path, Some(CookiePath::Given(b"/a b".to_vec())));
    }

    /// RFC 6265bis, sections 5.6.5 to 5.6.7.
    #[test]
    fn flags_have_any_case() {
        let read = attributes("SECURE=no;httponly; samesite=sTRICT ;Partitioned;Priority=High");
        assert!(read.secure && read.http_only && read.partitioned);
        assert_eq!(read.same_site, SameSite::Strict);
        assert_eq!(attributes("SameSite=Lax; SameSite=?").same_site, SameSite::Default);
    }

    fn parse(line: &str) -> Result<Received, Ignored> {
        Received::parse(line.as_bytes(), NOW)
    }

    fn attributes(text: &str) -> Attributes {
        parse(&format!("a=b; {text}")).unwrap().attributes
    }
}
