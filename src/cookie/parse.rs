//! Finds our cookie in a request, byte for byte.
//!
//! No percent-decoding, no trimming of anything but the space between pairs, no quotes, no case
//! folding: a name that becomes ours only by interpretation is not ours, and junk beside our cookie
//! cannot hide it. The work is one pass over the header.

use http::HeaderValue;
use memchr::memchr_iter;
use smallvec::SmallVec;
use steadfast_core::Token;

/// The highest number of cookies of our name that are checked: each costs the store a load.
pub(crate) const MAX_CANDIDATES: usize = 4;

/// The values of a request's cookies that have our name.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    /// The distinct tokens, in the order in which they came, at most [`MAX_CANDIDATES`].
    pub(crate) tokens: SmallVec<[Token; 1]>,
    /// True if a cookie of our name was not a token.
    pub(crate) malformed: bool,
}

impl Candidates {
    /// Looks through all `Cookie` lines of a request.
    pub(crate) fn find<'a>(lines: impl IntoIterator<Item = &'a HeaderValue>, name: &str) -> Self {
        let mut found = Self::default();
        for value in lines.into_iter().flat_map(|line| values(line.as_bytes(), name, "=")) {
            found.take(value);
        }
        found
    }

    /// Takes one credential: a token, followed by a route if a load balancer appended one after a dot.
    pub(crate) fn take(&mut self, value: &[u8]) {
        match token_and_route(value).map(|(token, _)| token) {
            Some(token) if self.tokens.len() < MAX_CANDIDATES && !self.has(&token) => {
                self.tokens.push(token);
            }
            Some(_) => {}
            None => self.malformed = true,
        }
    }

    fn has(&self, token: &Token) -> bool {
        self.tokens.iter().any(|known| known.is_same(token))
    }
}

/// A credential's token, and the route that a balancer appended after a dot. `None` if it is malformed.
pub(crate) fn token_and_route(value: &[u8]) -> Option<(Token, Option<&[u8]>)> {
    let (token, rest) = value.split_at_checked(Token::LEN)?;
    let route = match rest {
        [] => None,
        [b'.', route @ ..] => Some(route),
        _ => return None,
    };
    Some((Token::decode(token)?, route))
}

/// The values of the cookies called `name` in one `Cookie` line; `rest` is what follows the name, up to
/// and with the equals sign.
pub(crate) fn values<'a>(line: &'a [u8], name: &str, rest: &str) -> impl Iterator<Item = &'a [u8]> {
    let ends = memchr_iter(b';', line).chain([line.len()]);
    let pairs = ends.scan(0, |start, end| {
        let pair = &line[*start..end];
        *start = end + 1;
        Some(pair)
    });
    pairs.filter_map(move |pair| {
        let start = pair.iter().position(|byte| *byte != b' ')?;
        pair[start..].strip_prefix(name.as_bytes())?.strip_prefix(rest.as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAME: &str = "__Host-id";

    /// Shows CK-07.
    #[test]
    fn all_cookie_lines_count() {
        let lines = ["theme=dark", &cookie('A'), "a=b"];
        assert_eq!(found(&lines).tokens.len(), 1);
    }

    /// Shows CK-09.
    #[test]
    fn junk_beside_our_cookie_does_not_hide_it() {
        for junk in ["=", ";;;", "a", "=a", "a=\"x", "\u{e9}=\u{e9}", "a==", " ", "a=b=c", ","] {
            for line in [
                format!("{junk}; {}", cookie('A')),
                format!("{}; {junk}", cookie('A')),
                format!("{junk};{};{junk}", cookie('A')),
            ] {
                assert_eq!(found(&[&line]).tokens.len(), 1, "{line:?}");
            }
        }
    }

    /// Shows CK-08.
    #[test]
    fn a_similar_cookie_name_is_not_ours() {
        let token = "A".repeat(64);
        for name in [
            "__host-id",
            "__HOST-id",
            "__Host-id ",
            "\t__Host-id",
            "%5F_Host-id",
            "__Host%2Did",
            "\"__Host-id\"",
            "\u{a0}__Host-id",
            "$__Host-id",
            "x__Host-id",
            "__Host-id2",
            "",
        ] {
            let found = found(&[&format!("{name}={token}")]);
            assert!(found.tokens.is_empty() && !found.malformed, "{name:?}");
        }
    }

    /// Shows ID-05.
    #[test]
    fn another_spelling_of_a_token_is_malformed() {
        let token = "A".repeat(64);
        for value in [
            format!("\"{token}\""),
            format!("{token} "),
            format!(" {token}"),
            format!("{token}="),
            format!("{}%41", &token[1..]),
            token[1..].to_owned(),
            String::new(),
            format!("{token}A"),
        ] {
            let found = found(&[&format!("{NAME}={value}")]);
            assert!(found.tokens.is_empty() && found.malformed, "{value:?}");
        }
    }

    #[test]
    fn a_route_is_not_part_of_the_token() {
        assert_eq!(found(&[&format!("{}.n1.n2", cookie('A'))]).tokens.len(), 1);
    }

    /// Shows CK-11.
    #[test]
    fn duplicates_are_counted_once_and_bounded() {
        let same = [cookie('A'), cookie('A')].join("; ");
        assert_eq!(found(&[&same]).tokens.len(), 1);
        let many = ('A'..='Z').map(cookie).collect::<Vec<_>>().join("; ");
        assert_eq!(found(&[&many]).tokens.len(), MAX_CANDIDATES);
    }

    proptest! {
        /// Shows IN-01.
        #[test]
        fn random_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            if let Ok(line) = HeaderValue::from_bytes(&bytes) {
                Candidates::find([&line], NAME);
            }
        }
    }

    fn found(lines: &[&str]) -> Candidates {
        let lines: Vec<_> =
            lines.iter().map(|line| HeaderValue::from_bytes(line.as_bytes()).unwrap()).collect();
        Candidates::find(&lines, NAME)
    }

    fn cookie(fill: char) -> String {
        format!("{NAME}={}", fill.to_string().repeat(64))
    }
}
