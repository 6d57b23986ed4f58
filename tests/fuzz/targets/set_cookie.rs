//! Any cookie profile: it is refused when it is given to a layer, or a browser stores what the layer
//! sets, sends it back, replaces it at a rotation, and loses it at the logout or with the session.
//!
//! An input is two bytes of flags, the lifetime and the age at the rotation in milliseconds (4 bytes
//! each), and three lines: name, domain, path.

#![no_main]

use std::time::Duration;

use browser::{Jar, Request, Url};
use fuzz::{Input, Site};
use http::HeaderValue;
use libfuzzer_sys::fuzz_target;
use steadfast::{CookieProfile, Error, Lifetime, SameSite, Session, Status};

fuzz_target!(|data: &[u8]| {
    let wish = Wish::read(Input::new(data));
    let lifetime = Lifetime::new(wish.lifetime, wish.lifetime).expect("1 s to 400 days");
    let made = Site::new(|layer| layer.lifetime(lifetime).cookie(wish.profile.clone()));
    assert_eq!(made.is_ok(), wish.profile.check().is_ok());
    match made {
        Ok(site) => Tab::new(site, &wish).live(&wish),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});

#[derive(Debug)]
struct Wish {
    profile: CookieProfile,
    secure: bool,
    same_site: SameSite,
    host: String,
    path: String,
    cause: u8,
    persistent: bool,
    logs_out: bool,
    lifetime: Duration,
    age: Duration,
}

impl Wish {
    fn read(mut input: Input<'_>) -> Self {
        let (flags, more) = (input.byte(), input.byte());
        let lifetime = 1_000 + u64::from(input.small()) % 34_559_999_001;
        let age = u64::from(input.small()) % lifetime;
        let (name, domain, path) = (input.line(), input.line(), input.line());
        let (profile, host) = match flags & 3 {
            0 => (CookieProfile::host(), "shop.example".to_owned()),
            1 => (CookieProfile::domain(&domain), domain),
            2 => (CookieProfile::partitioned(), "shop.example".to_owned()),
            _ => (CookieProfile::dev(), "shop.example".to_owned()),
        };
        let secure = flags & 4 != 0;
        let same_site = [SameSite::Strict, SameSite::Lax, SameSite::None][usize::from(more) % 3];
        let profile = profile.name(name).path(path.clone()).secure(secure).same_site(same_site);
        Self {
            profile: if flags & 8 != 0 { profile.persistent() } else { profile },
            persistent: flags & 8 != 0,
            logs_out: flags & 64 == 0,
            secure,
            same_site,
            host,
            path,
            cause: flags >> 4 & 3,
            lifetime: Duration::from_millis(lifetime),
            age: Duration::from_millis(age),
        }
    }

    /// The address that the cookie is for.
    fn url(&self) -> Url {
        let scheme = if self.secure { "https" } else { "http" };
        let wide = format!("{scheme}://www.{}{}", self.host, self.path);
        let own = format!("{scheme}://{}{}", self.host, self.path);
        wide.parse()
            .or_else(|_| own.parse())
            .expect("browsers know the host of an accepted profile")
    }

    /// The request, as another site causes it where the cookie is to go along with that.
    fn request(&self) -> Request {
        let (request, other) = (Request::new(self.url()), "https://news.example/".parse());
        let other = other.expect("a URL");
        match (self.cause, self.same_site) {
            (1, SameSite::None) => request.embedded_in(&other),
            (2, SameSite::None) => request.linked_from(&other).unsafe_method(),
            (1..=3, SameSite::Lax | SameSite::None) => request.linked_from(&other),
            _ => request,
        }
    }
}

/// A browser with one tab at one site.
struct Tab {
    site: Site,
    jar: Jar,
    request: Request,
}

impl Tab {
    fn new(site: Site, wish: &Wish) -> Self {
        Self { site, jar: Jar::new(), request: wish.request() }
    }

    fn live(mut self, wish: &Wish) {
        self.begin(wish);
        self.site.clock.advance(wish.age);
        if !self.has_cookie(wish, wish.age, wish.lifetime) {
            return;
        }
        self.rotate();
        let left = wish.lifetime - wish.age;
        if !self.has_cookie(wish, Duration::ZERO, left) {
            return;
        }
        assert_eq!(self.status(), Status::Existing);
        match wish.logs_out {
            true => self.log_out(),
            false => self.outlive(wish, left),
        }
        assert_ne!(self.status(), Status::Existing);
    }

    fn begin(&mut self, wish: &Wish) {
        self.visit(|session| async move { session.insert("a", 1).await });
        let cookie = self.cookie().expect("the cookie is stored and sent back");
        assert!(cookie.starts_with(format!("{}=", wish.profile.cookie_name()).as_bytes()));
        let script = self.request.clone().by_script();
        assert_eq!(self.jar.cookie_header(&script, self.site.now()), None, "scripts do not see it");
    }

    fn rotate(&mut self) {
        assert_eq!(self.status(), Status::Existing);
        let before = self.cookie();
        self.visit(|session| async move { session.cycle_id().await });
        assert_ne!(self.cookie(), before);
    }

    fn log_out(&mut self) {
        self.visit(|session| async move { session.flush().await });
        assert_eq!(self.jar.cookies(self.site.now()).count(), 0, "the removal removes");
    }

    fn outlive(&mut self, wish: &Wish, left: Duration) {
        self.site.clock.advance(left);
        assert_eq!(
            self.cookie().is_some(),
            !wish.persistent,
            "a cookie does not outlive its session"
        );
    }

    fn status(&mut self) -> Status {
        let status = self.visit(|session| async move { session.status().await });
        status.expect("the handler says it")
    }

    /// Returns true if the browser still has a cookie that it got so long ago for `left`, which counts in whole
    /// seconds if the cookie is persistent.
    #[track_caller]
    fn has_cookie(&mut self, wish: &Wish, ago: Duration, left: Duration) -> bool {
        let expected = !wish.persistent || ago < Duration::from_secs(left.as_secs());
        assert_eq!(self.cookie().is_some(), expected);
        expected
    }

    fn visit<T, F>(&mut self, handler: impl FnOnce(Session) -> F) -> Option<T>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let cookies = self.cookie().map(|line| HeaderValue::from_bytes(&line).expect("a header"));
        let reply = self.site.visit(cookies.as_slice(), handler);
        assert!(reply.status.is_success(), "{}", reply.status);
        assert!(reply.set_cookies.len() <= 1);
        for line in &reply.set_cookies {
            let kept = self.jar.receive(&self.request, line, self.site.now());
            assert_eq!(kept, Ok(()), "{line:?}");
        }
        reply.said
    }

    fn cookie(&mut self) -> Option<Vec<u8>> {
        self.jar.cookie_header(&self.request, self.site.now())
    }
}
