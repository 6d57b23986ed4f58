//! Logging in to a server.

use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{
    ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};
use postgres_protocol::message::backend::{AuthenticationSaslBody, Message};
use postgres_protocol::message::frontend;

use fallible_iterator::FallibleIterator;

use super::tls::Binding;
use super::wire::Wire;
use crate::error::Failure;

/// The user, the database and the settings to log in with.
#[derive(Clone)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: Option<String>,
    pub(crate) database: Option<String>,
    pub(crate) application_name: String,
    /// Settings of the session: `-c name=value`.
    pub(crate) options: Option<String>,
    pub(crate) binding: Binding,
}

/// Logs in. Returns the id of the server process.
///
/// `certificate` is the hash of the server's certificate to bind the login to, if there is one.
pub(crate) async fn log_in(
    wire: &mut Wire,
    login: &Login,
    certificate: Option<Vec<u8>>,
) -> Result<i32, Failure> {
    let parameters = [
        ("client_encoding", Some("UTF8")),
        ("user", Some(login.user.as_str())),
        ("database", login.database.as_deref()),
        ("application_name", Some(login.application_name.as_str())),
        ("options", login.options.as_deref()),
    ];
    let given = parameters.into_iter().filter_map(|(name, value)| Some((name, value?)));
    frontend::startup_message(given, wire.compose())?;
    wire.send().await?;
    authenticate(wire, login, certificate).await?;
    let mut process = 0;
    loop {
        match wire.receive().await? {
            Message::BackendKeyData(key) => process = key.process_id(),
            Message::ReadyForQuery(_) => return Ok(process),
            Message::ErrorResponse(error) => return Err(Failure::server(error.fields())),
            _ => return Err(UNEXPECTED),
        }
    }
}

async fn authenticate(
    wire: &mut Wire,
    login: &Login,
    certificate: Option<Vec<u8>>,
) -> Result<(), Failure> {
    let password = || login.password.as_deref().ok_or(refused("it asks for a password"));
    let must_bind = || match login.binding {
        Binding::Require => Err(refused("it does not bind the login to the connection")),
        _ => Ok(()),
    };
    match wire.receive().await? {
        Message::AuthenticationOk => return must_bind(),
        Message::AuthenticationCleartextPassword => {
            must_bind()?;
            frontend::password_message(password()?.as_bytes(), wire.compose())?;
        }
        Message::AuthenticationMd5Password(body) => {
            must_bind()?;
            let hash = md5_hash(login.user.as_bytes(), password()?.as_bytes(), body.salt());
            frontend::password_message(hash.as_bytes(), wire.compose())?;
        }
        Message::AuthenticationSasl(body) => {
            return scram(wire, password()?, &body, login.binding, certificate).await;
        }
        Message::ErrorResponse(error) => return Err(Failure::server(error.fields())),
        _ => return Err(refused("it asks for a kind of login that there is not")),
    }
    wire.send().await?;
    admitted(wire).await
}

async fn scram(
    wire: &mut Wire,
    password: &str,
    offered: &AuthenticationSaslBody,
    binding: Binding,
    certificate: Option<Vec<u8>>,
) -> Result<(), Failure> {
    let offered: Vec<_> = offered.mechanisms().map(|name| Ok(name.to_owned())).collect()?;
    let offers = |name: &str| offered.iter().any(|offered| offered == name);
    let certificate = certificate.filter(|_| binding != Binding::Disable);
    let (mechanism, channel) = match certificate {
        Some(hash) if offers(SCRAM_SHA_256_PLUS) => {
            (SCRAM_SHA_256_PLUS, ChannelBinding::tls_server_end_point(hash))
        }
        _ if binding == Binding::Require => {
            return Err(refused("it does not bind the login to the connection"));
        }
        _ if !offers(SCRAM_SHA_256) => {
            return Err(refused("it asks for a kind of login that there is not"));
        }
        // Tells the server that this client supports channel binding. If the server offered it, an
        // attacker removed the offer, and the server rejects the login.
        Some(_) => (SCRAM_SHA_256, ChannelBinding::unrequested()),
        None => (SCRAM_SHA_256, ChannelBinding::unsupported()),
    };
    let mut scram = ScramSha256::new(password.as_bytes(), channel);
    frontend::sasl_initial_response(mechanism, scram.message(), wire.compose())?;
    wire.send().await?;
    match wire.receive().await? {
        Message::AuthenticationSaslContinue(body) => scram.update(body.data())?,
        other => return Err(unexpected(&other)),
    }
    frontend::sasl_response(scram.message(), wire.compose())?;
    wire.send().await?;
    match wire.receive().await? {
        Message::AuthenticationSaslFinal(body) => scram.finish(body.data())?,
        other => return Err(unexpected(&other)),
    }
    admitted(wire).await
}

async fn admitted(wire: &mut Wire) -> Result<(), Failure> {
    match wire.receive().await? {
        Message::AuthenticationOk => Ok(()),
        other => Err(unexpected(&other)),
    }
}

fn unexpected(message: &Message) -> Failure {
    match message {
        Message::ErrorResponse(error) => Failure::server(error.fields()),
        _ => UNEXPECTED,
    }
}

/// The server accepted the login on unacceptable conditions.
fn refused(why: &str) -> Failure {
    let code = "28000".to_owned();
    Failure::Server { code, message: why.to_owned(), is_fatal: true }
}

const UNEXPECTED: Failure = Failure::Protocol("a message at the wrong time");
