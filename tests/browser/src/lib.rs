//! A browser's cookie jar, for tests: what it stores of a `Set-Cookie` line, and what it sends.
//!
//! It follows draft-ietf-httpbis-rfc6265bis as of July 2026, section by section (they are numbered so
//! since -20), and `Partitioned` as CHIPS has it (draft-cutler-httpbis-partitioned-cookies). Section
//! numbers in this crate are those of the first. It shares no code with what it tests.
//!
//! Left aside: the public suffix list (every name without a dot counts as a public suffix, and no
//! other), internationalised names that are not A-labels yet, and limits on the number of cookies.
//!
//! ```
//! use browser::{Jar, Request};
//! use time::UtcDateTime;
//!
//! let (mut jar, now) = (Jar::new(), UtcDateTime::UNIX_EPOCH);
//! let visit = Request::new("https://shop.example/".parse()?);
//! jar.receive(&visit, "__Host-id=1; Path=/; Secure; HttpOnly; SameSite=Lax", now)?;
//! assert_eq!(jar.cookie_header(&visit, now).as_deref(), Some(&b"__Host-id=1"[..]));
//!
//! let forged = Request::new("https://shop.example/buy".parse()?)
//!     .linked_from(&"https://evil.example/".parse()?)
//!     .unsafe_method();
//! assert_eq!(jar.cookie_header(&forged, now), None);
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```

mod url;
mod request;

mod rules;
mod date;
mod jar;

pub use jar::{Cookie, Ignored, Jar};
pub use request::Request;
pub use rules::SameSite;
pub use url::{Site, Url, UrlError};
