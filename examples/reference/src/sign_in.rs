//! The input of `/login`: the user, the terms, and the labels of the session.

use std::time::Duration;

use steadfast::{AtCap, Lifetime, Login};

use crate::errors::Failure;

/// A sign-in, and who signs in.
pub(crate) struct SignIn {
    pub(crate) user: String,
    pub(crate) login: Login,
}

/// Reads the parameters of a sign-in. Of the two lifetimes, one that is missing is the layer's.
pub(crate) fn read(parameters: &[(String, String)], layer: &Lifetime) -> Result<SignIn, Failure> {
    let find = |name: &str| {
        let found = parameters.iter().rev().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    };
    let user = find("u").ok_or_else(|| wrong("u", "a name"))?.to_owned();
    let mut login = Login::new(&user);
    if let Some(lifetime) = lifetime(find("idle"), find("absolute"), layer)? {
        login = login.lifetime(lifetime);
    }
    if let Some(persistent) = find("persistent") {
        login = login.persistent(persistent == "1");
    }
    if let Some(epoch) = find("epoch") {
        login = login.epoch(epoch.parse().map_err(|_| wrong("epoch", "a whole number"))?);
    }
    if let Some(max) = find("max") {
        login = login.max_sessions(max.parse().map_err(|_| wrong("max", "a whole number"))?);
    }
    match find("at_cap") {
        None => {}
        Some("refuse") => login = login.at_cap(AtCap::Refuse),
        Some("end-oldest") => login = login.at_cap(AtCap::EndOldest),
        Some(_) => return Err(wrong("at_cap", "end-oldest or refuse")),
    }
    for (name, value) in parameters {
        if let Some(name) = name.strip_prefix("label.") {
            login = login.label(name, value);
        }
    }
    Ok(SignIn { user, login })
}

fn lifetime(
    idle: Option<&str>,
    absolute: Option<&str>,
    layer: &Lifetime,
) -> Result<Option<Lifetime>, Failure> {
    if idle.is_none() && absolute.is_none() {
        return Ok(None);
    }
    let seconds = |name: &str, text: Option<&str>| {
        let seconds = text.map(|text| text.parse().map(Duration::from_secs)).transpose();
        seconds.map_err(|_| wrong(name, "a whole number of seconds"))
    };
    let absolute = seconds("absolute", absolute)?.unwrap_or(layer.absolute());
    let idle = seconds("idle", idle)?.unwrap_or(layer.idle().min(absolute));
    let lifetime = Lifetime::new(idle, absolute);
    lifetime.map(Some).map_err(|_| wrong("idle", "1 s to 400 days, and no more than absolute"))
}

fn wrong(name: &str, wants: &'static str) -> Failure {
    Failure::Parameter { name: name.to_owned(), wants }
}
