//! A small application whose sessions are administered: a page for administrators, back-channel logout of
//! OpenID Connect, an audit log, and a mail about a new device. All of it works over any store.

mod accounts;
mod admin;
pub mod audit;
mod backchannel;
pub mod issuer;
mod keys;
mod page;

use std::sync::Arc;

use axum::Router;
use steadfast::{CookieProfile, Lifetime, Realm, SessionLayer, SessionStore};
use tower_http::csrf::CsrfLayer;

use audit::Audit;
use backchannel::Backchannel;

pub use backchannel::Provider;

/// The sessions of the application: three realms over one store.
#[derive(Clone, Debug)]
pub struct Realms {
    /// The layer of users, found by the `sid` of their identity provider.
    pub users: SessionLayer,
    /// The layer of administrators: another cookie, and a shorter life.
    pub administrators: SessionLayer,
    /// The logout tokens that were used. No client has such a session.
    used_tokens: SessionLayer,
}

impl Realms {
    /// The realms over this store, with an audit log of what happens to them.
    ///
    /// # Errors
    ///
    /// Never: the names and times in it are valid.
    pub fn over(store: impl SessionStore, audit: &Audit) -> anyhow::Result<Self> {
        let store: Arc<dyn SessionStore> = Arc::new(store);
        let layer = || SessionLayer::new(Arc::clone(&store));
        let administrators = layer()
            .realm(Realm::new("admin")?)
            .cookie(CookieProfile::host().name("__Host-admin"))?
            .lifetime(Lifetime::OWASP_HIGH_VALUE);
        let remembered = Lifetime::new(backchannel::REMEMBERED, backchannel::REMEMBERED)?;
        Ok(Self {
            users: layer().index_labels(["sid"])?.on_event(audit.listener()),
            administrators: administrators.on_event(audit.listener()),
            used_tokens: layer().realm(Realm::new("logout-tokens")?).lifetime(remembered),
        })
    }

    /// Waits for what outlives its request.
    pub async fn join(&self) {
        tokio::join!(self.users.join(), self.administrators.join(), self.used_tokens.join());
    }
}

/// The application: its users sign in at this provider, its administrators with this password.
pub fn router(realms: &Realms, provider: Provider, password: &str) -> Router {
    let users = realms.users.sessions();
    let provider = Arc::new(provider);
    let admin = admin::router(users.clone(), password).layer(realms.administrators.clone());
    let accounts = accounts::router(Arc::clone(&provider)).layer(realms.users.clone());
    let used = realms.used_tokens.sessions();
    // The provider is another site, so its request passes no check of where a form came from.
    let backchannel = backchannel::router(Backchannel { provider, users, used });
    Router::new().nest("/admin", admin).merge(accounts).layer(CsrfLayer::new()).merge(backchannel)
}
